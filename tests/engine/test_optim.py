import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.config.schema import Optim
from sightline.engine.optim import (
    Average,
    build_optimizer,
    clip_gradients,
    hidden_weights,
    orthogonalize,
    parameter_groups,
    sam_perturbed,
)
from sightline.errors import SightlineError


class Small(nn.Module):
    """Two convolutions, a batch norm, a hidden linear layer and a head."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.Flatten()
        )
        self.hidden = nn.Linear(64, 24)
        self.head = nn.Linear(24, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.hidden(self.backbone(images)).relu())


DEPTHS = {
    "backbone.0.weight": 0,
    "backbone.1.weight": 0,
    "backbone.1.bias": 0,
    "backbone.3.weight": 1,
    "backbone.3.bias": 1,
    "hidden.weight": 2,
    "hidden.bias": 2,
    "head.weight": 3,
    "head.bias": 3,
}


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small().to(memory_format=torch.channels_last)


def gradients(model: nn.Module, step: int) -> None:
    """Compute the gradients for a batch drawn with seed `step`."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(16, 3, 7, 7, generator=generator).to(memory_format=torch.channels_last)
    loss = functional.cross_entropy(model(images), torch.randint(4, (16,), generator=generator))
    model.zero_grad(set_to_none=True)
    loss.backward()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> nn.Module:
    for step in range(first, first + steps):
        gradients(model, step)
        optimizer.step()
    return model


def gradient_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def assert_same_weights(a: nn.Module, b: nn.Module, atol: float, rtol: float) -> None:
    torch.testing.assert_close(dict(a.named_parameters()), dict(b.named_parameters()), atol=atol, rtol=rtol)


def by_name(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """The group of each parameter."""
    return {name: group for group in optimizer.param_groups for name in group["param_names"]}


REFERENCES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01, foreach=False),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95), weight_decay=0.01, foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, betas=(0.8, 0.95), weight_decay=0.01, foreach=False),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_optimizers_equal_torchs(name):
    optim = Optim(name=name, lr=0.05, momentum=0.9, nesterov=name == "sgd", betas=(0.8, 0.95), weight_decay=0.01)
    ours, theirs = small(), small()
    train(ours, build_optimizer(ours, optim, DEPTHS), 5)
    train(theirs, REFERENCES[name](theirs.parameters()), 5)
    assert_same_weights(ours, theirs, atol=2e-4, rtol=1e-3)
    with pytest.raises(AssertionError):
        assert_same_weights(ours, small(), atol=2e-4, rtol=1e-3)


def test_every_trainable_parameter_is_in_one_group():
    for name in ("sgd", "adamw", "muon"):
        model = small()
        model.hidden.requires_grad_(False)
        optim = Optim(name=name, layer_decay=0.7, weight_decay=0.1, decay_norm_and_bias=False)
        names = [n for group in build_optimizer(model, optim, DEPTHS).param_groups for n in group["param_names"]]
        assert sorted(names) == sorted(set(DEPTHS) - {"hidden.weight", "hidden.bias"})


def test_norm_and_bias_without_weight_decay():
    model = small()
    groups = by_name(build_optimizer(model, Optim(weight_decay=0.1, decay_norm_and_bias=False), DEPTHS))
    assert {n: g["weight_decay"] for n, g in groups.items()} == {
        n: 0.1 if p.ndim > 1 else 0.0 for n, p in model.named_parameters()
    }
    [group] = build_optimizer(model, Optim(weight_decay=0.1), DEPTHS).param_groups
    assert group["weight_decay"] == 0.1


def test_layer_decay_by_formula():
    groups = by_name(build_optimizer(small(), Optim(lr=0.2, layer_decay=0.5), DEPTHS))
    for name, depth in DEPTHS.items():
        assert groups[name]["lr_scale"] == 0.5 ** (3 - depth)
        assert groups[name]["lr"] == groups[name]["base_lr"] == 0.2 * 0.5 ** (3 - depth)


def test_a_part_of_the_model_has_its_own_factor_of_the_learning_rate():
    model = small()
    model.rate_scales = {"head": 10.0}  # ty: ignore[invalid-assignment]
    for optim in (Optim(lr=0.2), Optim(name="lars", lr=0.2), Optim(name="muon", lr=0.2, muon_lr=0.2)):
        for name, group in by_name(build_optimizer(model, optim, DEPTHS)).items():
            factor = 10 if name.startswith("head.") else 1
            assert group["base_lr"] == pytest.approx(0.2 * factor)


def test_hidden_weights_exclude_first_layer_head_and_embeddings():
    assert hidden_weights(small()) == {"backbone.3.weight", "hidden.weight"}
    tokens = nn.ModuleDict(
        {"embed": nn.Embedding(9, 8), "a": nn.Linear(8, 8), "b": nn.Linear(8, 8), "head": nn.Linear(8, 2)}
    )
    tokens.register_parameter("pos_embed", nn.Parameter(torch.zeros(1, 4, 8)))
    assert hidden_weights(tokens) == {"b.weight"}


def test_muon_groups_have_their_own_learning_rate():
    groups = by_name(build_optimizer(small(), Optim(name="muon", lr=0.3, muon_lr=0.01), DEPTHS))
    for name, group in groups.items():
        hidden = name in {"backbone.3.weight", "hidden.weight"}
        assert (group["kind"], group["base_lr"]) == (("muon", 0.01) if hidden else ("adamw", 0.3))


@pytest.mark.parametrize("shape", [(24, 64), (64, 24), (32, 32)])
def test_muon_equals_torchs_for_matrices(shape):
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    layers = [nn.Linear(4, 4), nn.Linear(shape[1], shape[0], bias=False)]
    optim = Optim(name="muon", muon_lr=0.05, muon_momentum=0.9, weight_decay=0.1)
    ours = build_optimizer(nn.Sequential(*layers), optim, {}, torch.bfloat16)
    weight, reference = layers[1].weight, nn.Parameter(start.clone())
    weight.data.copy_(start)
    theirs = torch.optim.Muon([reference], lr=0.05, momentum=0.9, weight_decay=0.1, adjust_lr_fn="original")
    for step in range(4):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        weight.grad, reference.grad = gradient.clone(), gradient.clone()
        ours.step()
        theirs.step()
    moved = (reference - start).norm()
    assert moved > 0.5
    assert (weight - reference).norm() < 0.01 * moved  # matrix products in bfloat16 differ by rounding


def test_muon_flattens_kernels_and_uses_adamw_for_other_parameters():
    optim = Optim(name="muon", lr=0.05, betas=(0.8, 0.95), muon_lr=0.02, weight_decay=0.01)
    ours, theirs = small(), small()
    optimizer = build_optimizer(ours, optim, DEPTHS)
    hidden = {name: p for name, p in theirs.named_parameters() if name in hidden_weights(theirs)}
    others = [p for name, p in theirs.named_parameters() if name not in hidden]
    adamw = torch.optim.AdamW(others, lr=0.05, betas=(0.8, 0.95), weight_decay=0.01, foreach=False)
    moments = {name: torch.zeros_like(p) for name, p in hidden.items()}
    for step in range(3):
        gradients(ours, step)
        gradients(theirs, step)
        optimizer.step()
        adamw.step()
        for name, p in hidden.items():
            moments[name] = 0.95 * moments[name] + gradient_of(p)
            matrix = (gradient_of(p) + 0.95 * moments[name]).reshape(len(p), -1)
            rows, columns = matrix.shape
            change = 0.02 * max(1, rows / columns) ** 0.5 * orthogonalize(matrix[None])[0]
            p.data = p.data * (1 - 0.02 * 0.01) - change.reshape(p.shape)
    assert_same_weights(ours, theirs, atol=2e-4, rtol=1e-3)


def test_norm_of_a_normalized_muon_step():
    layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(12, 8, bias=False))
    optim = Optim(name="muon", muon_lr=0.1, muon_normalize=True)
    optimizer = build_optimizer(layers, optim, {})
    weight = layers[1].weight
    start = weight.detach().clone()
    weight.grad = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    scaled = start * (8**0.5 / start.norm())
    assert (weight.detach() - scaled).norm() == pytest.approx(0.1 * 8**0.5, rel=1e-4)
    weight.data.mul_(7)  # the scale of the weight before a step has no effect
    again = weight.detach().clone()
    optimizer.step()
    assert (weight.detach() - again / again.norm() * 8**0.5).norm() == pytest.approx(0.1 * 8**0.5, rel=1e-4)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_orthogonalize_changes_singular_values_to_about_1_and_keeps_the_vectors(precision):
    matrices = (
        torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    )
    result = orthogonalize(matrices, precision)
    assert result.dtype == torch.float32
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.6 and values.max() < 1.25
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.mT @ result @ right.mT
    assert (inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))).abs().max() < 0.05
    torch.testing.assert_close(orthogonalize(matrices.mT, precision), result.mT)
    assert orthogonalize(torch.zeros(1, 3, 4)).abs().max() == 0


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars", "muon"])
def test_resuming_from_contiguous_moments_gives_the_same_weights(name):
    # torch's fused updates silently give wrong results for contiguous moments of channels_last weights
    optim = Optim(name=name, lr=0.01, momentum=0.9)
    uninterrupted, interrupted = small(), small()
    train(uninterrupted, build_optimizer(uninterrupted, optim, DEPTHS), 6)
    optimizer = build_optimizer(interrupted, optim, DEPTHS)
    train(interrupted, optimizer, 3)
    state = copy.deepcopy(optimizer.state_dict())
    for moments in state["state"].values():
        for key, value in moments.items():
            moments[key] = value.contiguous()
    resumed = small(seed=1)
    resumed.load_state_dict(interrupted.state_dict())
    fresh = build_optimizer(resumed, optim, DEPTHS)
    fresh.load_state_dict(state)
    train(resumed, fresh, 3, first=3)
    assert_same_weights(uninterrupted, resumed, atol=0, rtol=0)


def test_loading_a_state_keeps_the_settings_and_raises_for_other_parameters():
    model = small()
    old = build_optimizer(model, Optim(lr=0.1, weight_decay=0.1), DEPTHS)
    train(model, old, 1)
    new = build_optimizer(model, Optim(lr=0.5, weight_decay=0.2), DEPTHS)
    new.load_state_dict(old.state_dict())
    assert new.param_groups[0]["lr"] == new.param_groups[0]["base_lr"] == 0.5
    assert new.param_groups[0]["weight_decay"] == 0.2
    assert torch.equal(new.state[model.head.weight]["momentum_buffer"], old.state[model.head.weight]["momentum_buffer"])
    for other in (Optim(layer_decay=0.5), Optim(name="adam"), Optim(name="muon")):
        with pytest.raises(SightlineError, match="does not match the parameters of this model"):
            build_optimizer(model, other, DEPTHS).load_state_dict(old.state_dict())


def test_a_model_without_trainable_parameters_is_an_error():
    with pytest.raises(SightlineError, match="no trainable parameter"):
        parameter_groups(small().requires_grad_(False), Optim(), {})


def test_clip_gradients():
    model = small()
    optimizer = build_optimizer(model, Optim(), DEPTHS)
    gradients(model, 0)
    norm = torch.cat([gradient_of(p).flatten() for p in model.parameters()]).norm()
    before = gradient_of(model.hidden.weight).clone()
    for limit in (0.0, 2 * norm.item()):
        assert clip_gradients(optimizer, limit).item() == pytest.approx(norm.item(), rel=1e-5)
        assert torch.equal(gradient_of(model.hidden.weight), before)
    assert clip_gradients(optimizer, norm.item() / 4).item() == pytest.approx(norm.item(), rel=1e-5)
    torch.testing.assert_close(model.hidden.weight.grad, before / 4, rtol=1e-4, atol=0)
    assert clip_gradients(optimizer, 0.0).item() == pytest.approx(norm.item() / 4, rel=1e-4)


def test_average_by_formula():
    model = nn.BatchNorm1d(1)
    average = Average(model, decay=0.25)
    mean = {"weight": 1.0, "running_mean": 0.0}
    for update, value in enumerate([3.0, 5.0, 7.0, 9.0]):
        nn.init.constant_(model.weight, value)
        model.get_buffer("running_mean").fill_(10 * value)
        model.get_buffer("num_batches_tracked").fill_(update)
        average.update(model)
        decay = min(0.25, (1 + update) / (10 + update))
        mean = {"weight": decay * mean["weight"] + (1 - decay) * value} | {
            "running_mean": decay * mean["running_mean"] + (1 - decay) * 10 * value
        }
    tensors = average.tensors()
    assert tensors["weight"].item() == pytest.approx(mean["weight"])
    assert tensors["running_mean"].item() == pytest.approx(mean["running_mean"])
    assert tensors["num_batches_tracked"].item() == 3


def test_swapped_into_restores_the_model_also_after_an_error():
    model = small()
    average = Average(model, 0.9)
    train(model, build_optimizer(model, Optim(), DEPTHS), 2)
    average.update(model)
    train(model, build_optimizer(model, Optim(), DEPTHS), 2)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="inside"), average.swapped_into(model):
        assert all(torch.equal(value, average.tensors()[name]) for name, value in model.state_dict().items())
        assert not torch.equal(model.head.weight, before["head.weight"])
        raise RuntimeError("inside")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_average_resumes_bit_identically():
    model = small()
    optimizer, average = build_optimizer(model, Optim(), DEPTHS), Average(model, 0.99)
    train(model, optimizer, 2)
    average.update(model)
    file = io.BytesIO()
    torch.save({name: tensor.contiguous() for name, tensor in average.tensors().items()}, file)
    file.seek(0)
    resumed = Average(small(seed=1), 0.99)
    resumed.restore(torch.load(file, weights_only=True), average.updates)
    train(model, optimizer, 2)
    for both in (average, resumed):
        both.update(model)
    assert all(torch.equal(value, average.tensors()[name]) for name, value in resumed.tensors().items())
    assert resumed.updates == 2
    with pytest.raises(SightlineError, match="do not match those of this model"):
        resumed.restore({"weight": torch.zeros(1)}, 1)


def test_lars_steps_are_proportional_to_the_norm_of_the_weight():
    """arXiv 1708.03888: steps of norm 0.001 * lr * |weight|; parameters of one dimension have SGD steps."""
    torch.manual_seed(0)
    model = Small()
    optim = Optim(name="lars", lr=2.0, momentum=0.0, weight_decay=1e-12, decay_norm_and_bias=False)
    optimizer = build_optimizer(model, optim, {})
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = 1e-4 * torch.randn_like(parameter)
    optimizer.step()
    for name, value in model.named_parameters():
        moved = value.detach() - before[name]
        expected = 0.001 * 2.0 * before[name].norm() if value.ndim > 1 else 2.0 * value.grad.norm()
        assert float(moved.norm()) == pytest.approx(float(expected), rel=1e-3), name


def test_sam_perturbation_by_hand():
    """For the gradient (3, 4) of the weight and 0 of the bias, radius 0.5 adds (0.3, 0.4) to the weight."""
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0]]))
    layer.weight.grad, layer.bias.grad = torch.tensor([[3.0, 4.0]]), torch.zeros(1)
    before = layer.weight.detach().clone()
    with sam_perturbed(layer, 0.5):
        assert layer.weight.tolist() == [pytest.approx([1.3, 2.4])]
        assert layer.weight.grad is None
        (layer.weight.square().sum() / 2).backward()
    assert torch.equal(layer.weight, before)
    assert layer.weight.grad.tolist() == [pytest.approx([1.3, 2.4])]


def test_sam_perturbation_does_not_update_batch_norm_and_is_undone_after_an_error():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    images = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    model(images).square().mean().backward()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="inside"), sam_perturbed(model, 0.1):
        model(images * 5).square().mean().backward()
        raise RuntimeError("inside")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model(images)
    assert int(model[1].num_batches_tracked) == 2


def test_sam_perturbation_is_zero_for_a_zero_gradient():
    layer = nn.Linear(2, 1)
    layer.weight.grad, layer.bias.grad = torch.zeros(1, 2), torch.zeros(1)
    before = layer.weight.detach().clone()
    with sam_perturbed(layer, 0.5):
        assert torch.equal(layer.weight, before)
