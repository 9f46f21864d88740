"""The learner of pre-training: loss, target network, views, and collapse."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.data.augment.batch import evaluation_transform
from sightline.data.types import Batch
from sightline.stats.metrics import feature_std
from sightline.tasks.pretrain.build import build_siamese, step_flops, view_functions
from sightline.tasks.pretrain.collapse import collapse
from sightline.tasks.pretrain.config import Pretrain
from sightline.tasks.pretrain.objectives.byol import byol_loss
from sightline.tasks.pretrain.objectives.moco import contrastive_loss
from sightline.tasks.pretrain.objectives.simsiam import simsiam_loss
from sightline.tasks.pretrain.task import PretrainLearner, target_momentum

SIZE = 16
Toy = Callable[..., Config]
ALONE = {"pretrain.method": "simsiam", "pretrain.momentum": 0.996, "pretrain.momentum_batch": 4096}
FAST = {"model": {"name": "fastnet", "args": {"widths": [8, 16, 16]}}}
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def task_of(config: Config) -> PretrainLearner:
    torch.manual_seed(0)
    model = build_siamese(config)
    large, tiny = view_functions(config, MEAN, STD)
    transform = evaluation_transform(config.data.size, MEAN, STD)
    rest = {"transform": transform, "bank": None, "feature_mask": None}
    return PretrainLearner(config=config, model=model, views=large, small=tiny, **rest)


def photographs(count: int, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    """uint8 [count, 3, size, size]: patches of the two photographs of scikit-learn, reduced by 4."""
    random, patches = np.random.default_rng(seed), []
    pictures = [
        np.ascontiguousarray(p[: p.shape[0] // 4 * 4, : p.shape[1] // 4 * 4]) for p in load_sample_images().images
    ]
    shrunk = [p.reshape(p.shape[0] // 4, 4, p.shape[1] // 4, 4, 3).mean((1, 3)) for p in pictures]
    for number in range(count):
        picture = shrunk[number % 2]
        top, left = (random.integers(0, side - size) for side in picture.shape[:2])
        patches.append(picture[top : top + size, left : left + size].transpose(2, 0, 1))
    return torch.from_numpy(np.stack(patches).round().astype(np.uint8))


def batch_of(images: torch.Tensor, epoch: int = 0) -> Batch:
    return Batch(images, None, torch.arange(len(images)), epoch)


# ---------------------------------------------------------------------------------------------------------- the loss


def test_the_loss_is_the_papers_on_hand_numbers() -> None:
    """Equation 2: the squared distance of prediction and target once both have length 1."""
    predictions = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])
    targets = torch.tensor([[6.0, 8.0], [0.0, 5.0], [0.0, -1.0]])
    assert float(byol_loss(predictions, targets, Pretrain())) == pytest.approx((0 + 2 + 4) / 3, abs=1e-6)
    lengths = [value / value.norm(dim=1, keepdim=True) for value in (predictions, targets)]
    assert float(byol_loss(predictions, targets, Pretrain())) == pytest.approx(
        float((lengths[0] - lengths[1]).square().sum(1).mean())
    )
    assert float(simsiam_loss(predictions, targets, Pretrain())) == pytest.approx(-(1 + 0 - 1) / 3 / 2, abs=1e-6)


def test_the_contrastive_term_is_the_cross_entropy_of_cosines_on_hand_numbers(small: Toy) -> None:
    predictions = torch.tensor([[3.0, 0.0], [0.0, 0.5]], requires_grad=True)
    targets = torch.tensor([[1.0, 0.0], [4.0, 0.0]], requires_grad=True)
    # cosines: first with both targets 1, second with both 0: neither can be told
    assert contrastive_loss(predictions, targets, Pretrain(temperature=0.5)).item() == pytest.approx(math.log(2))
    apart = torch.tensor([[2.0, 0.0], [0.0, 2.0]], requires_grad=True)
    loss = contrastive_loss(predictions, apart, Pretrain(temperature=0.5))  # cosines 1 and 0, over 0.5
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))
    loss.backward()
    assert apart.grad is None and predictions.grad is not None
    task = task_of(small(**{"pretrain.method": "moco", "pretrain.temperature": 0.5}))
    assert task.loss(predictions, apart).item() == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-6)
    with pytest.raises(SightlineError, match=r"temperature .* needs pretrain\.method moco"):
        small(**{"pretrain.temperature": 0.5})


def test_no_gradient_goes_to_the_target() -> None:
    predictions, targets = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    byol_loss(predictions, targets, Pretrain()).backward()
    assert targets.grad is None and predictions.grad is not None and predictions.grad.abs().sum() > 0


@pytest.mark.parametrize("method", ["byol", "simsiam"])
def test_a_step_uses_both_directions_and_one_batch_per_view(small: Toy, method: str) -> None:
    """The reference is the published definition, with batch statistics of one view at a time."""
    task = task_of(small(**({"pretrain.method": method} | (ALONE if method == "simsiam" else {}))))
    model, batch = task.model.train(), batch_of(photographs(8))
    with torch.no_grad():
        first, second = task.prepare(batch)[0]
        guess = [model.predictor(model.projector(model.backbone(view))) for view in (first, second)]
        follower = model.target if model.target is not None else nn.Sequential(model.backbone, model.projector)
        goal = [follower(view) for view in (first, second)]
        cosines = [nn.functional.cosine_similarity(p, z, dim=1).mean() for p, z in zip(guess, goal[::-1], strict=True)]
        expected = 4 - 2 * sum(cosines) if method == "byol" else -sum(cosines) / 2
        together = model.backbone(torch.cat([first, second]))
        apart = torch.cat([model.backbone(first), model.backbone(second)])
    assert float(task.step(batch)["loss"].detach()) == pytest.approx(float(expected), abs=1e-5)
    assert not torch.allclose(together, apart, atol=1e-4), "batch statistics must tell the two apart"


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("small_cnn", {}),
        ("resnet9", {}),
        ("resnet18", {}),
        ("vgg13_bn", {"width": 8}),
        ("timm/vit_tiny_patch16_224", {}),
        ("torchvision/mobilenet_v3_small", {}),
        ("unet", {"width": 8}),
        ("fcn32s", {"width": 8}),
        ("smp/fpn/resnet18", {}),
    ],
)
def test_a_step_has_gradients_for_the_backbone_and_not_for_the_target(small: Toy, name: str, args: dict) -> None:
    task = task_of(resolve(small(), {"model": {"name": name, "args": args}, "data.size": 32}))
    task.step(batch_of(photographs(4, 32)))["loss"].backward()
    grads = [p.grad for p in task.model.backbone.parameters()]
    assert any(g is not None and float(g.abs().sum()) > 0 for g in grads)
    assert all(p.grad is None for p in task.model.target.parameters())
    first = next(p for p in task.model.backbone.parameters() if p.ndim > 1)
    assert first.grad is not None and float(first.grad.abs().sum()) > 0, "down to the first layer"


def test_small_views_are_compared_with_both_targets(small: Toy) -> None:
    narrow = {"name": "fastnet", "args": {"widths": [8, 16, 16]}}
    task = task_of(resolve(small(**{"pretrain.small_crops": 2, "pretrain.small_size": 8}), {"model": narrow}))
    batch = batch_of(photographs(8))
    views, crops = task.prepare(batch)
    assert [v.shape[2] for v in views] == [SIZE, SIZE] and [c.shape[2] for c in crops] == [8, 8]
    assert not torch.equal(crops[0], crops[1])
    model = task.model.train()
    with torch.no_grad():
        goals = [model.project(view) for view in views]
        terms = [
            byol_loss(model.predict(views[0]), goals[1], Pretrain()),
            byol_loss(model.predict(views[1]), goals[0], Pretrain()),
        ]
        terms += [byol_loss(model.predict(crop), goal, Pretrain()) for crop in crops for goal in goals]
    assert len(terms) == 6
    assert float(task.step(batch)["loss"].detach()) == pytest.approx(2 * float(sum(terms)) / 6, abs=1e-5)


def test_small_views_shrink_with_the_large_ones(small: Toy) -> None:
    extra = {"pretrain.small_crops": 1, "pretrain.small_size": SIZE, "augment.progressive": [[SIZE // 2, 0.5]]}
    config = small(**extra | FAST)
    task, batch = task_of(config), batch_of(photographs(4))
    assert [view.shape[2] for views in task.prepare(batch) for view in views] == [SIZE // 2] * 3
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        task.model.eval().predict(torch.zeros(1, 3, SIZE // 2, SIZE // 2))
    alone = resolve(config, {"pretrain.small_crops": 0, "pretrain.small_size": 0})
    small_views = step_flops(config, task.model, SIZE // 2) - step_flops(alone, task.model, SIZE // 2)
    assert small_views == 3 * counter.get_total_flops()
    assert [view.shape[2] for views in task.prepare(batch) for view in views] == [SIZE] * 3


# -------------------------------------------------------------------------------------------------------- the target


def test_the_target_starts_equal_and_shares_no_storage(small: Toy) -> None:
    model = build_siamese(small())
    online = nn.Sequential(model.backbone, model.projector)
    ours, theirs = online.state_dict(), model.target.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    places = [{t.untyped_storage().data_ptr() for t in state.values()} for state in (ours, theirs)]
    assert not places[0] & places[1]


def test_the_target_is_the_moving_average(small: Toy) -> None:
    config = small(**{"pretrain.momentum": 0.75, "pretrain.momentum_end": 0.75})
    task = task_of(config)
    model = task.model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    before = {name: value.clone() for name, value in model.target.named_parameters()}
    task.step(batch_of(photographs(8)))["loss"].backward()
    assert all(parameter.grad is None for parameter in model.target.parameters())
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.target.named_parameters())
    task.after_step(1, 10)
    online = dict(nn.Sequential(model.backbone, model.projector).named_parameters())
    moved = 0.0
    for name, value in model.target.named_parameters():
        torch.testing.assert_close(value, before[name] + 0.25 * (online[name] - before[name]))
        moved += float((value - before[name]).abs().sum())
    assert moved > 0


def test_the_momentum_accounts_for_accumulated_batches(small: Toy) -> None:
    """Two accumulated batches of 8 have the momentum of a batch of 16."""
    moved = []
    for size, count in ((16, 1), (8, 2)):
        settings = {"pretrain.momentum": 0.5, "pretrain.momentum_end": 0.5, "pretrain.momentum_batch": 64}
        task = task_of(small(**settings, **{"train.batch_size": size, "optim.accumulate": count}))
        before = [p.clone() for p in task.model.target.parameters()]
        with torch.no_grad():
            for parameter in task.model.backbone.parameters():
                parameter.add_(1)
        task.after_step(1, 10)
        after = task.model.target.parameters()
        moved.append(float(next((b - a).abs().max() for a, b in zip(before, after, strict=True))))
    assert moved[0] == pytest.approx(moved[1]) and moved[0] == pytest.approx(1 - 0.5**0.25, rel=1e-3)


def test_the_batch_norms_of_the_target_have_their_own_statistics(small: Toy) -> None:
    """Buffers of the target come from its own forward passes and are not averaged."""
    task = task_of(small())
    model = task.model.train()
    statistics = {name: value.clone() for name, value in model.target.named_buffers() if name.endswith("running_mean")}
    task.step(batch_of(photographs(8)))
    after = dict(model.target.named_buffers())
    assert all(not torch.equal(after[name], value) for name, value in statistics.items())
    kept = {name: after[name].clone() for name in statistics}
    model.update_target(0.0)
    assert all(torch.equal(dict(model.target.named_buffers())[name], value) for name, value in kept.items())


def test_the_momentum_schedule_is_that_of_the_paper_scaled_by_the_batch_size() -> None:
    paper = Pretrain(momentum=0.996, momentum_batch=0)
    for step in (1, 250, 500, 999, 1000):
        expected = 1 - (1 - 0.996) * (math.cos(math.pi * step / 1000) + 1) / 2
        assert target_momentum(step, 1000, paper, 64) == pytest.approx(expected, abs=1e-12)
    assert target_momentum(1000, 1000, paper, 64) == 1
    constant = Pretrain(momentum=0.99, momentum_end=0.99, momentum_batch=0)
    assert {target_momentum(step, 10, constant, 64) for step in range(1, 11)} == {0.99}
    scaled = Pretrain(momentum=0.9, momentum_end=0.9, momentum_batch=512)
    assert target_momentum(5, 10, scaled, 128) ** 4 == pytest.approx(0.9)  # four small batches for one large


# --------------------------------------------------------------------------------------------------------- the views


def test_two_images_of_a_batch_and_two_views_of_an_image_get_different_crops(small: Toy) -> None:
    """With the same image sixteen times, all views would be equal if a batch shared its random numbers."""
    config = small(**{"data.size": 32, "augment.jitter": 0.0, "augment.grayscale": 0.0, "augment.horizontal_flip": 0.0})
    config = resolve(config, {"pretrain.second_solarize": 0.0})
    task = task_of(config)
    same = photographs(1, 32).repeat(16, 1, 1, 1)
    first, second = task.prepare(batch_of(same))[0]
    for views in (first, second, torch.stack([first[0], second[0]])):
        distances = torch.cdist(views.flatten(1), views.flatten(1))
        assert distances[~torch.eye(len(views), dtype=torch.bool)].min() > 0.1
    assert not torch.equal(task.prepare(batch_of(same, epoch=1))[0][0], first)
    again = task.prepare(Batch(same[:4], None, torch.arange(4), 0))[0][0]
    assert torch.equal(again, first[:4]), "a view is a function of seed, epoch and sample"


def test_the_second_view_has_its_own_settings(small: Toy) -> None:
    config = resolve(small(), {"augment": {"crop": "none", "jitter": 0.0, "grayscale": 0.0, "horizontal_flip": 0.0}})
    config = resolve(config, {"pretrain.second_solarize": 1.0})
    images = photographs(8)
    first, second = task_of(config).prepare(batch_of(images))[0]
    plain = images.float() / 255
    torch.testing.assert_close(first * 0.25 + 0.5, plain, rtol=0, atol=1e-5)
    torch.testing.assert_close(second * 0.25 + 0.5, torch.where(plain >= 0.5, 1 - plain, plain), rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------------------------ learning, collapse


def pretrained(task: PretrainLearner, images: torch.Tensor, steps: int) -> list[float]:
    """The spread of the projections after each tenth of `steps` steps of 32 images."""
    spreads = []
    model, config = task.model.train(), task.config
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=config.optim.lr)
    for step in range(steps):
        places = torch.from_numpy(np.random.default_rng(step).permutation(len(images))[:32])
        task.step(Batch(images[places], None, places, step))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        task.after_step(step + 1, steps)
        if (step + 1) % 10 == 0:
            with torch.no_grad():
                spreads.append(feature_std(model.eval().projector(model.features(task.transform(images)))))
            model.train()
    return spreads


def test_projections_do_not_collapse_in_a_hundred_steps(small: Toy) -> None:
    assert min(pretrained(task_of(small()), photographs(128), 100)) > 0.2


def test_projections_collapse_without_predictor_and_stop_gradient(small: Toy) -> None:
    """Control: without the safeguards of BYOL the features collapse, and `collapse` detects it."""

    class Same(nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return maps

    task = task_of(small(**ALONE, **{"optim.lr": 5e-3}))
    task.model.predictor = Same()
    task.loss = lambda p, z: -nn.functional.cosine_similarity(p, z, dim=1).mean()
    task.model.forward = lambda images: (lambda z: (z, z))(task.model.projector(task.model.backbone(images)))
    spread = pretrained(task, photographs(128), 150)[-1]
    healthy = {"feature_std": 0.4, "effective_rank": 20.0}
    assert not collapse(healthy)
    assert collapse(healthy | {"feature_std": spread}), spread


@pytest.mark.parametrize("settings", [{}, {"pretrain.small_crops": 2, "pretrain.small_size": SIZE - 4} | FAST, ALONE])
def test_training_flops_are_those_of_a_real_step(small: Toy, settings: dict[str, object]) -> None:
    """torch's count of the forward pass, times 3 where there is a backward pass: not for the target."""
    config = small(**settings)
    task, batch = task_of(config), batch_of(photographs(4))
    task.parameters().train()
    with FlopCounterMode(display=False) as whole:
        task.step(batch)
    target = 0
    if task.model.target is not None:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            task.model.project(torch.zeros(2 * 4, 3, SIZE, SIZE))
        target = counter.get_total_flops()
    expected = (3 * (whole.get_total_flops() - target) + target) / 4
    assert step_flops(config, task.model, SIZE) == pytest.approx(expected, rel=1e-6)
