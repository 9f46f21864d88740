"""Every objective of pre-training: loss, gradients, precision, resuming; and the parts of DINO and distillation."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import sightline
from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.data.augment.batch import NORMALIZATIONS, evaluation_transform
from sightline.data.channels import RGB
from sightline.data.types import Batch
from sightline.models import build_backbone
from sightline.recipes import load_recipe
from sightline.tasks.pretrain.build import build, build_siamese, step_flops, view_functions
from sightline.tasks.pretrain.config import Pretrain
from sightline.tasks.pretrain.objectives import OBJECTIVES
from sightline.tasks.pretrain.objectives.dino import Prototypes, centered_and_sharpened, dino_loss
from sightline.tasks.pretrain.objectives.distill import Teacher, distill_loss, load_teacher
from sightline.tasks.pretrain.results import preview
from sightline.tasks.pretrain.task import PretrainLearner

pytestmark = pytest.mark.usefixtures("no_reports")

Toy = Callable[..., Config]
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
TEACHER = "timm/test_efficientnet"
ALONE = {"pretrain.momentum": 0.996, "pretrain.momentum_batch": 4096}
SETTINGS: dict[str, dict[str, Any]] = {
    "byol": {},
    "simsiam": ALONE,
    "moco": {},
    "dino": {"pretrain.prototypes": 16, "pretrain.small_crops": 1, "pretrain.small_size": 8},
    "distill": ALONE | {"pretrain.teacher": TEACHER, "pretrain.teacher_size": 32},
}
FAST = {"model": {"name": "fastnet", "args": {"widths": [8, 16, 16]}}}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with weights of the teacher; random values."""
    torch.manual_seed(7)
    network, _ = build_backbone(TEACHER, 32)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(network.state_dict(), path)
    return str(path)


@pytest.fixture
def settings(small: Toy, weights: str) -> Callable[[str], Config]:
    """settings(METHOD): the configuration of a pre-training of seconds by this objective."""

    def make(method: str) -> Config:
        own = SETTINGS[method] | ({"pretrain.teacher_weights": weights} if method == "distill" else {})
        return resolve(small(**{"pretrain.method": method} | own), FAST)

    return make


def learner(config: Any, dtype: torch.dtype = torch.float32) -> PretrainLearner:
    torch.manual_seed(0)
    model = build_siamese(config).to(dtype)
    large, tiny = view_functions(config, MEAN, STD)
    transform = evaluation_transform(config.data.size, MEAN, STD)
    found = PretrainLearner(config=config, model=model, views=large, small=tiny, transform=transform)
    if config.pretrain.teacher:
        found.teacher, _ = load_teacher(config.pretrain, (MEAN, STD), torch.device("cpu"))
    return found


def batch(count: int = 8, size: int = 16) -> Batch:
    images = torch.randint(
        0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return Batch(images, None, torch.arange(count), 0)


@pytest.mark.parametrize("method", OBJECTIVES)
def test_gradients_reach_the_online_network_and_nothing_else(method: str, settings: Callable[[str], Config]) -> None:
    task = learner(settings(method))
    task.model.train()
    task.step(batch())["loss"].backward()
    for name, parameter in task.model.named_parameters():
        moved = parameter.grad is not None and float(parameter.grad.abs().sum()) > 0
        assert moved == (not name.startswith(("target.", "backbone.stem."))), name  # the stem is fixed
    assert (task.model.target is None) == (method in ("simsiam", "distill"))
    assert task.teacher is None or all(p.grad is None for p in task.teacher.parameters())
    assert not any("teacher" in name for name in task.model.state_dict())


def published_loss(method: str, guesses: list[torch.Tensor], goals: list[torch.Tensor]) -> torch.Tensor:
    """The symmetric loss of two views, written from the paper: guesses[i] of view i, goals[j] of view j."""
    total = torch.zeros(())
    for guess, goal in zip(guesses, reversed(goals), strict=True):
        cosines = (guess / guess.norm(dim=1, keepdim=True)) @ (goal / goal.norm(dim=1, keepdim=True)).T
        if method == "moco":
            shares = [row.div(0.2).exp()[number] / row.div(0.2).exp().sum() for number, row in enumerate(cosines)]
            total = total - torch.stack(shares).log().mean()
        else:
            mean = cosines.diagonal().mean()
            total = total + (2 - 2 * mean if method == "byol" else -mean / 2)
    return total


@pytest.mark.parametrize("method", ["byol", "simsiam", "moco"])
def test_gradients_are_those_of_the_published_loss(method: str, settings: Callable[[str], Config]) -> None:
    """With the targets as constants; in SimSiam, they are from the same network, so that a gradient could flow."""
    task = learner(settings(method))
    model = task.model.train()
    views = task.prepare(batch())[0]
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    follower = model.target if model.target is not None else nn.Sequential(model.backbone, model.projector)
    found = []
    for constant in (True, False):
        goals = [follower(view) for view in views]
        goals = [goal.detach() for goal in goals] if constant else goals
        loss = published_loss(method, [model.predict(view) for view in views], goals)
        found.append(dict(zip(trained, torch.autograd.grad(loss, trained.values()), strict=True)))
    task.step(batch())["loss"].backward()
    for name, parameter in trained.items():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, found[0][name], rtol=1e-3, atol=1e-5)
    first = next(name for name, p in trained.items() if p.ndim > 1)
    differs = not torch.allclose(found[0][first], found[1][first], rtol=1e-2)
    assert differs == (method == "simsiam")


@pytest.mark.parametrize("method", OBJECTIVES)
def test_the_encoder_of_a_segmenter_is_trained(method: str, settings: Callable[[str], Config]) -> None:
    unet = {"name": "unet", "args": {"width": 8, "blocks": [1, 1, 1, 1]}}
    own = {"data.size": 32} | ({"pretrain.small_size": 16} if method == "dino" else {})
    task = learner(resolve(settings(method), {"model": unet} | own))
    task.model.train()
    task.step(batch(4, 32))["loss"].backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in task.model.backbone.parameters())


@pytest.mark.parametrize("method", OBJECTIVES)
def test_views_of_an_evaluation_have_the_full_side(method: str, settings: Callable[[str], Config]) -> None:
    larger = {"pretrain.small_size": 16} if method == "dino" else {}  # its small views shrink to half of it
    task = learner(resolve(settings(method), {"augment.progressive": [[8, 0.9]]} | larger))
    task.model.train()
    assert {view.shape[-1] for view in task.prepare(batch())[0]} == {8}
    task.model.eval()
    assert {view.shape[-1] for view in task.prepare(batch())[0]} == {16}


@pytest.mark.parametrize("method", OBJECTIVES)
def test_steps_lower_the_loss_in_bfloat16_too(method: str, settings: Callable[[str], Config]) -> None:
    ends = []
    for precise in (True, False):
        task = learner(settings(method))
        task.model.train()
        optimizer = torch.optim.AdamW(task.model.parameters(), lr=3e-3)
        losses = []
        for step in range(12):
            with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
                loss = task.step(batch())["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            task.after_step(step + 1, 1000)
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0] and loss.dtype == torch.float32
        ends.append(losses)
    assert ends[0][0] == pytest.approx(ends[1][0], rel=0.03, abs=0.03)


@pytest.mark.parametrize("method", ["simsiam", "moco", "dino", "distill"])
def test_a_run_is_resumed_exactly(method: str, settings: Callable[[str], Config], few: Path, tmp_path: Path) -> None:
    whole = sightline.train(settings(method), few, out=tmp_path / "whole", quiet=True)
    half = resolve(settings(method), {"train.max_minutes": 1e-9})
    stopped = sightline.train(half, few, out=tmp_path / "half", quiet=True)
    assert stopped.metrics["step"] < whole.metrics["step"]
    sightline.resume(stopped.path, quiet=True, **{"train.max_minutes": 0})
    first, second = (load_file(r.path / "checkpoints" / "last" / "model.safetensors") for r in (whole, stopped))
    assert all(torch.equal(first[name], second[name]) for name in first) and first.keys() == second.keys()
    assert ("target.2.center" in first) == (method == "dino")
    low, high = whole.metrics["linear_accuracy_interval"]
    assert 0 <= low <= whole.metrics["linear_accuracy"] <= high <= 1
    assert whole.metrics["alignment"] > 0 > whole.metrics["uniformity"]
    assert 0 < whole.metrics["knn_accuracy"] <= 1 and whole.metrics["effective_rank"] > 1
    again = sightline.evaluate(whole.path, quiet=True)
    assert again["knn_accuracy"] == whole.metrics["knn_accuracy"]
    assert ("loss" in again) == (method != "distill"), "the teacher is not loaded to evaluate features"
    page = sightline.report(whole.path).read_text(encoding="utf-8")
    assert f"pre-trained by {OBJECTIVES[method].title}" in page and "Uniformity of the features" in page


# --------------------------------------------------------------------------------------------------------------- DINO


def test_the_loss_of_dino_on_hand_numbers() -> None:
    """Student logits ln 3 and 0 at temperature 1 are probabilities 3/4 and 1/4."""
    own = Pretrain(method="dino", student_temperature=1.0)
    student = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0.0], [0.5, 0.5]], requires_grad=True)
    loss = dino_loss(student, target, own)
    assert loss.item() == pytest.approx((-math.log(3 / 4) + math.log(2)) / 2)
    loss.backward()
    assert target.grad is None and student.grad is not None
    halved = dino_loss(student * 0.1, target, own.replace(student_temperature=0.1))
    assert halved.item() == pytest.approx(loss.item(), rel=1e-5)


def test_a_step_of_dino_is_the_loop_of_the_paper(settings: Callable[[str], Config]) -> None:
    """Written in NumPy after algorithm 1 and the multi-crop of arXiv 2104.14294: every view of the student against both
    large views of the teacher, but not against itself; then the center moves."""
    config: Any = settings("dino")
    task = learner(config)
    model = task.model.train()
    center = torch.linspace(-0.1, 0.1, 16)
    model.target[-1].center.copy_(center)
    views, crops = task.prepare(batch())
    with torch.no_grad():
        student = [model.predict(view).double().numpy() for view in (*views, *crops)]
        teacher = [model.project(view).double().numpy() for view in views]
    assert all(np.abs(logits).max() <= 1 + 1e-6 for logits in (*student, *teacher)), "cosines with the prototypes"

    def softmax(values: np.ndarray) -> np.ndarray:
        powers = np.exp(values - values.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    targets = [softmax((logits - center.numpy()) / 0.04) for logits in teacher]
    losses = [
        -(targets[t] * np.log(softmax(student[s] / 0.1))).sum(1).mean() for t in range(2) for s in range(3) if s != t
    ]
    assert len(losses) == 4
    assert float(task.step(batch())["loss"].detach()) == pytest.approx(2 * np.mean(losses), rel=1e-4)
    moved = 0.9 * center + 0.1 * torch.from_numpy(np.concatenate(teacher).mean(0)).float()
    torch.testing.assert_close(model.target[-1].center, moved, rtol=0, atol=1e-4)
    model.eval()
    task.step(batch())
    torch.testing.assert_close(model.target[-1].center, moved, rtol=0, atol=1e-4)


def test_centering_and_sharpening_prevent_the_two_collapses() -> None:
    """Without the center, one prototype can win for all images; without sharpening, the targets are uniform."""
    head = Prototypes(4, 8)
    holder: Any = type("Networks", (nn.Module,), {})()
    holder.target = nn.Sequential(nn.Identity(), nn.Identity(), head)
    logits = torch.zeros(6, 8)
    logits[:, 2] = 0.9
    logits += 0.05 * torch.rand(6, 8, generator=torch.Generator().manual_seed(0))
    own = Pretrain(method="dino")
    (before,) = centered_and_sharpened([logits], holder.train(), own)
    assert set(before.argmax(1).tolist()) == {2}
    for _ in range(100):
        (after,) = centered_and_sharpened([logits], holder, own)
    assert len(set(after.argmax(1).tolist())) > 1
    (blunt,) = centered_and_sharpened([logits], holder, own.replace(teacher_temperature=10.0))
    assert float(blunt.max()) < 0.13 < float(after.max())


def test_the_target_of_dino_averages_the_prototypes_too(settings: Callable[[str], Config]) -> None:
    task = learner(resolve(settings("dino"), {"pretrain.momentum": 0.75, "pretrain.momentum_end": 0.75}))
    head, follower = task.model.predictor, task.model.target[-1]
    assert torch.equal(head.weight, follower.weight)
    before = follower.weight.clone()
    with torch.no_grad():
        head.weight.add_(1)
    task.after_step(1, 10)
    torch.testing.assert_close(follower.weight, before + 0.25)


def test_dino_trains_a_vision_transformer_with_small_views(settings: Callable[[str], Config]) -> None:
    args = {"patch_size": 4, "depth": 1, "embed_dim": 24, "num_heads": 2}
    model = {"name": "timm/vit_tiny_patch16_224", "args": args | {"dynamic_img_size": True}}
    task = learner(resolve(settings("dino"), {"model": model}))
    task.step(batch())["loss"].backward()
    assert all(p.grad is not None for p in task.model.backbone.parameters())
    with pytest.raises(SightlineError, match="small views of 8 x 8") as caught:
        build_siamese(resolve(settings("dino"), {"model": {"name": model["name"], "args": args}}))
    assert "dynamic_img_size" in caught.value.cure


# ------------------------------------------------------------------------------------------------------- distillation


def test_the_loss_of_distillation_on_hand_numbers() -> None:
    predictions = torch.tensor([[3.0, 4.0], [1.0, 0.0]], requires_grad=True)
    features = torch.tensor([[6.0, 8.0], [0.0, 5.0]], requires_grad=True)
    loss = distill_loss(predictions, features, Pretrain())
    assert loss.item() == pytest.approx((0 + 2) / 2, abs=1e-6)
    lengths = [(v / v.norm(dim=1, keepdim=True)).detach() for v in (predictions, features)]
    assert loss.item() == pytest.approx(float((lengths[0] - lengths[1]).square().sum(1).mean()), abs=1e-6)
    loss.backward()
    assert features.grad is None


def test_a_teacher_that_would_not_see_the_whole_view_is_an_error(settings: Callable[[str], Config]) -> None:
    own = {"pretrain.teacher": "timm/vit_tiny_patch16_224", "pretrain.teacher_size": 100}
    config: Any = resolve(settings("distill"), own | {"pretrain.teacher_weights": "none.pt"})
    with pytest.raises(SightlineError, match="would not see the last 4 rows") as caught:
        load_teacher(config.pretrain, (MEAN, STD), torch.device("cpu"))
    assert "--pretrain.teacher_size 96 or --pretrain.teacher_size 112" in caught.value.cure


def test_the_preview_shows_all_views_of_an_image(settings: Callable[[str], Config]) -> None:
    task = learner(settings("dino"))
    images = torch.randint(0, 255, (3, 3, 16, 16), dtype=torch.uint8)
    parts = SimpleNamespace(learner=task, normalization=(MEAN, STD), train=SimpleNamespace(channels=RGB))
    drawn = preview(SimpleNamespace(parts=parts), Batch(images, None, torch.arange(3), 0))  # ty: ignore
    titles = [axes.get_xlabel() for axes in drawn.axes if axes.get_xlabel()]
    assert titles == ["view 1", "view 2", "small view"] * 3
    sides = [axes.images[0].get_array().shape[0] for axes in drawn.axes if axes.images]  # ty: ignore
    assert sides == [16, 16, 8] * 3


def test_the_teacher_sees_the_same_view_with_its_own_preprocessing(settings: Callable[[str], Config]) -> None:
    task = learner(settings("distill"))
    assert isinstance(task.teacher, Teacher) and not task.teacher.network.training
    views, _ = task.prepare(batch())
    pixels = views[0] * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]  # in 0 to 1
    mean, std = (torch.tensor(values)[:, None, None] for values in NORMALIZATIONS["imagenet"])
    sized = nn.functional.interpolate((pixels - mean) / std, (32, 32), mode="bicubic", antialias=True)
    expected = task.teacher.network(sized)
    torch.testing.assert_close(task.teacher(views[0]), expected, rtol=1e-3, atol=1e-3)
    guesses = [task.model.train().predict(view).detach() for view in views]
    terms = [float(distill_loss(guess, task.teacher(view), Pretrain())) for guess, view in zip(guesses, views)]  # noqa: B905
    assert float(task.step(batch())["loss"].detach()) == pytest.approx(sum(terms), rel=1e-4)


def test_the_features_of_the_teacher_are_standardized_by_training_images() -> None:
    class Pixels(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :, 0, :2].flatten(1) * torch.tensor([1.0, 100, 1, 1, 1, 0])

    teacher = Teacher(Pixels(), 4, (MEAN, STD), (MEAN, STD))
    views = torch.randn(250, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    views[:, 0, 0, 0] = 7.0  # a feature without variance, beside one of 100 times the deviation of the others
    before = teacher(views)
    teacher.standardize(views)
    found, expected = teacher(views), (before - before.mean(0)) / before.std(0)
    torch.testing.assert_close(found[:, 1:5], expected[:, 1:5], rtol=1e-4, atol=1e-4)
    assert not found[:, [0, 5]].any(), "constant features are 0"


def test_a_run_standardizes_the_features_of_its_teacher(settings: Callable[[str], Config], few: Path) -> None:
    config: Any = resolve(settings("distill"), {"data.path": str(few)})
    teacher = build(config, lambda text: None).learner.teacher
    assert isinstance(teacher, Teacher) and teacher.standard.shape[0] == 2 and teacher.standard.shape[1] > 100
    again = build(config, lambda text: None, fresh=False).learner.teacher
    assert torch.equal(teacher.standard, again.standard), "a resumed run has the same targets"


def test_errors_of_the_teacher_name_its_own_settings(settings: Callable[[str], Config]) -> None:
    config: Any = resolve(settings("distill"), {"pretrain.teacher": "timm/test_resnet"})
    with pytest.raises(SightlineError, match="the teacher: ") as caught:
        learner(config)
    assert "pretrain.teacher" in caught.value.cure and "model." not in caught.value.cure


def test_the_teacher_is_counted_and_leaves_the_random_numbers_unchanged(settings: Callable[[str], Config]) -> None:
    config: Any = settings("distill")
    model = build_siamese(config)
    larger = resolve(config, {"pretrain.teacher_size": 64})
    assert step_flops(larger, model, 16) > step_flops(config, model, 16)  # ty: ignore
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_teacher(config.pretrain, (MEAN, STD), torch.device("cpu"))
    assert torch.equal(torch.rand(1), expected)


# ------------------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"pretrain.method": "distill"}, "needs a trained network"),
        ({"pretrain.teacher": TEACHER}, "need pretrain.method distill"),
        ({"pretrain.prototypes": 8}, "need pretrain.method dino"),
        ({"pretrain.method": "distill", "pretrain.teacher": TEACHER, "pretrain.small_crops": 1}, "no small views"),
        ({"pretrain.method": "distill", "pretrain.teacher": TEACHER}, "distill has no target network"),
        ({"pretrain.method": "dino", "pretrain.predictor_rate": 10.0}, "dino has no predictor"),
    ],
)
def test_settings_that_contradict_the_objective_are_errors(wrong: dict[str, Any], word: str, small: Toy) -> None:
    with pytest.raises(SightlineError, match=word):
        small(**wrong)


@pytest.mark.parametrize(("recipe", "method"), [(f"{name}_fast", name) for name in OBJECTIVES])
def test_a_recipe_is_named_after_its_loss(recipe: str, method: str) -> None:
    config: Any = load_recipe(recipe)
    assert config.pretrain.method == method and config.name == recipe
