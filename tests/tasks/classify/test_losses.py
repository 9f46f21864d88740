import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from sightline import SightlineError
from sightline.stats.class_weights import class_weights
from sightline.tasks.classify.losses import LOSSES, cross_entropy, focal

WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0, 0.25])


def case(soft: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 5, generator=generator) * 3
    targets = torch.randint(5, (12,), generator=generator)
    return logits, torch.rand(12, 5, generator=generator).softmax(1) if soft else targets


def value_and_gradient(loss, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


@pytest.mark.parametrize("loss", [cross_entropy, lambda *a, **k: focal(*a, alpha=1.0, gamma=0.0, **k)])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_and_focal_without_focus_are_torchs(loss, soft, smoothing, weights):
    logits, targets = case(soft)
    value, gradient = value_and_gradient(lambda x: loss(x, targets, smoothing=smoothing, weights=weights), logits)
    reference, expected = value_and_gradient(
        lambda x: functional.cross_entropy(x, targets, weight=weights, label_smoothing=smoothing), logits
    )
    torch.testing.assert_close(value, reference)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5)


def test_cross_entropy_by_hand():
    # softmax of (ln 3, 0) is (3/4, 1/4); smoothing 0.2 makes the target (0.9, 0.1)
    logits = torch.tensor([[3.0, 1.0]]).log()
    assert cross_entropy(logits, torch.tensor([0])).item() == pytest.approx(-np.log(0.75))
    smoothed = -0.9 * np.log(0.75) - 0.1 * np.log(0.25)
    assert cross_entropy(logits, torch.tensor([0]), smoothing=0.2).item() == pytest.approx(smoothed)


def test_focal_by_hand_is_the_softmax_form():
    # p_t = 3/4, so 0.5 * (1/4)^2 * -ln(3/4); the sigmoid form would add a term for the other class
    logits = torch.tensor([[3.0, 1.0]]).log()
    value = focal(logits, torch.tensor([0]), alpha=0.5, gamma=2.0).item()
    assert value == pytest.approx(0.5 / 16 * -np.log(0.75))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_and_its_gradient_are_the_formula(gamma):
    logits, targets = case(soft=False)
    ours = value_and_gradient(lambda x: focal(x, targets, alpha=0.25, gamma=gamma), logits)

    def formula(x: torch.Tensor) -> torch.Tensor:
        p = x.double().softmax(1)[torch.arange(12), targets]
        return (-0.25 * (1 - p) ** gamma * p.log()).mean()

    value, gradient = value_and_gradient(formula, logits)
    torch.testing.assert_close(ours[0], value.float())
    torch.testing.assert_close(ours[1], gradient, atol=1e-7, rtol=1e-4)


def test_focal_of_soft_targets_sums_over_the_classes():
    logits, _ = case(soft=False)
    shares = torch.tensor([0.7, 0, 0.3, 0, 0]).expand(12, 5)
    first, third = (focal(logits, torch.full((12,), k)) for k in (0, 2))
    torch.testing.assert_close(focal(logits, shares), 0.7 * first + 0.3 * third)


def test_focal_with_weights_divides_by_the_weights_of_the_targets():
    logits, targets = case(soft=False)
    each = torch.stack([focal(logits[i : i + 1], targets[i : i + 1]) for i in range(12)])
    expected = (each * WEIGHTS[targets]).sum() / WEIGHTS[targets].sum()
    torch.testing.assert_close(focal(logits, targets, weights=WEIGHTS), expected)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("settings", [{}, {"smoothing": 0.1}, {"gamma": 0.5}])
def test_extreme_logits_give_finite_values_and_gradients(name, settings):
    settings = {key: value for key, value in settings.items() if key != "gamma" or name == "focal"}
    logits = torch.tensor([[1e4, 0.0, -1e4], [0.0, 1e4, 0.0], [50.0, 0.0, 0.0]])
    value, gradient = value_and_gradient(lambda x: LOSSES[name](x, torch.tensor([0, 0, 0]), **settings), logits)
    assert value.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("soft", [False, True])
def test_low_precision_logits_are_computed_in_float32(name, soft):
    logits, targets = case(soft)
    low = logits.bfloat16()
    targets_low = targets.bfloat16() if soft else targets
    value = LOSSES[name](low, targets_low)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, LOSSES[name](low.float(), targets_low.float() if soft else targets))


def test_balanced_weights_are_scikit_learns_and_zero_for_a_class_without_images():
    labels = np.repeat([0, 1, 3], [2, 3, 5])
    weights = class_weights(np.bincount(labels), "balanced")
    present = np.array([0, 1, 3])
    np.testing.assert_allclose(weights[present], compute_class_weight("balanced", classes=present, y=labels))
    assert weights[2] == 0
    assert weights[labels].mean() == pytest.approx(1)


def test_class_weights_by_hand():
    counts = np.array([600, 0, 300, 100], dtype=np.int64)
    np.testing.assert_array_equal(class_weights(counts, "none"), [1, 0, 1, 1])
    np.testing.assert_allclose(class_weights(counts, "balanced"), [1000 / 1800, 0, 1000 / 900, 1000 / 300])
    np.testing.assert_allclose(class_weights(counts, "log"), [1 / np.log(1.62), 0, 1 / np.log(1.32), 1 / np.log(1.12)])
    # ENet's bounds: a share of 1 and a share of next to nothing
    assert class_weights([10**12, 1], "log") == pytest.approx([1 / np.log(2.02), 1 / np.log(1.02)])
    for kind in ("none", "balanced", "log"):
        np.testing.assert_array_equal(class_weights([0, 0], kind), [0, 0])
    with pytest.raises(SightlineError, match="'effective'"):
        class_weights(counts, "effective")
