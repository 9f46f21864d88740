import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from sightline.config.schema import Loss
from sightline.data.decode.palettes import IGNORE
from sightline.errors import SightlineError
from sightline.tasks.classify import losses
from sightline.tasks.segment.build import check
from sightline.tasks.segment.config import SegmentConfig
from sightline.tasks.segment.losses import (
    LOSSES,
    compound,
    cross_entropy,
    dice,
    focal,
    lovasz,
    negative_log_likelihood,
    ohem,
)

CLASSES = 5
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0, 0.25])
ALL = sorted(LOSSES)


def case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [2, 5, 6, 7] and masks uint8 [2, 6, 7]; class 4 is absent, a fifth of the pixels is ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, CLASSES, 6, 7, generator=generator) * 2
    targets = torch.randint(4, (2, 6, 7), generator=generator)
    targets[torch.rand(2, 6, 7, generator=generator) < 0.2] = IGNORE
    return logits, targets.to(torch.uint8)


def counted(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The counted pixels as a list: logits [pixels, K], targets int64 [pixels]."""
    keep = targets != IGNORE
    return logits.movedim(1, -1)[keep], targets[keep].long()


def value_and_gradient(loss, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def assert_same(loss, reference, logits: torch.Tensor) -> None:
    value, gradient = value_and_gradient(loss, logits)
    expected, slope = value_and_gradient(reference, logits)
    torch.testing.assert_close(value, expected.float(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradient, slope, atol=1e-6, rtol=1e-4)


def two_pixels(first: float, second: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [1, 2, 1, 2] of two pixels with these probabilities of class 0, and the truth 0, 1."""
    p = torch.tensor([[first, second], [1 - first, 1 - second]])
    return p.log().reshape(1, 2, 1, 2), torch.tensor([[[0, 1]]], dtype=torch.uint8)


# ---- by hand: pixels with p(0) = 3/4 and 2/5, truth 0 and 1, so that the targets have 3/4 and 3/5 ----


def test_cross_entropy_by_hand():
    logits, targets = two_pixels(0.75, 0.4)
    each = -np.log([0.75, 0.6])
    assert cross_entropy(logits, targets).item() == pytest.approx(each.mean())
    weighted = cross_entropy(logits, targets, torch.tensor([1.0, 3.0])).item()
    assert weighted == pytest.approx((each[0] + 3 * each[1]) / 4)
    # smoothing 0.2 makes the targets (0.9, 0.1) and (0.1, 0.9)
    smoothed = -(0.9 * np.log([0.75, 0.6]) + 0.1 * np.log([0.25, 0.4])).mean()
    assert cross_entropy(logits, targets, smoothing=0.2).item() == pytest.approx(smoothed)


def test_focal_by_hand():
    logits, targets = two_pixels(0.75, 0.4)
    each = -0.5 * np.array([0.25**2 * np.log(0.75), 0.4**2 * np.log(0.6)])
    assert focal(logits, targets, alpha=0.5, gamma=2.0).item() == pytest.approx(each.mean())


def test_dice_by_hand():
    logits, targets = two_pixels(0.75, 0.4)
    # class 0: hit 0.75, predicted 1.15, true 1; class 1: hit 0.6, predicted 0.85, true 1
    scores = [(2 * 0.75 + 0.5) / (1.15 + 1 + 0.5), (2 * 0.6 + 0.5) / (0.85 + 1 + 0.5)]
    assert dice(logits, targets, smooth=0.5).item() == pytest.approx(1 - np.mean(scores))
    weighted = dice(logits, targets, torch.tensor([3.0, 1.0]), smooth=0.5).item()
    assert weighted == pytest.approx(1 - (3 * scores[0] + scores[1]) / 4)


def test_lovasz_by_hand():
    logits, targets = two_pixels(0.75, 0.4)
    # class 0: errors 0.25 (its own pixel) and 0.4. The largest is the foreign one: Jaccard loss 1 - 1/2 after it,
    # 1 after both: 0.4 * 0.5 + 0.25 * 0.5. Class 1: its own pixel has error 0.4, and loses all: 0.4 * 1 + 0.25 * 0.
    assert lovasz(logits, targets).item() == pytest.approx((0.325 + 0.4) / 2)
    assert lovasz(logits, targets, torch.tensor([3.0, 1.0])).item() == pytest.approx((3 * 0.325 + 0.4) / 4)


def test_ohem_by_hand():
    p = torch.tensor([0.9, 0.5, 0.2, 0.7, 0.1])
    logits = torch.stack([p, 1 - p]).log().reshape(1, 2, 1, 5)
    targets = torch.tensor([[[0, 0, 0, 0, IGNORE]]])  # the worst pixel is ignored
    for settings_, taken in (({"share": 0.6}, 2), ({"share": 0.01}, 1), ({"share": 0.01, "minimum": 3}, 3)):
        expected = -np.log([0.2, 0.5, 0.7, 0.9][:taken]).mean()
        assert ohem(logits, targets, **settings_).item() == pytest.approx(expected), settings_
    assert ohem(logits, targets, share=0.5, minimum=99).item() == pytest.approx(cross_entropy(logits, targets).item())
    assert ohem(logits, targets, share=1.0).item() == pytest.approx(cross_entropy(logits, targets).item())


def test_ohem_chooses_without_weights_and_averages_with_them():
    logits, targets = two_pixels(0.75, 0.4)
    weights = torch.tensor([100.0, 1.0])
    assert ohem(logits, targets, weights, share=0.5).item() == pytest.approx(-np.log(0.6))
    each = -np.log([0.75, 0.6])
    assert ohem(logits, targets, weights, share=1.0).item() == pytest.approx((100 * each[0] + each[1]) / 101)


def test_ohem_takes_a_perfect_pixel_before_an_ignored_one():
    logits, targets = torch.zeros(1, 2, 1, 41), torch.full((1, 1, 41), IGNORE)
    logits[0, 0, 0, 20], targets[0, 0, 20], targets[0, 0, 40] = 200.0, 0, 1
    assert ohem(logits, targets, torch.tensor([3.0, 1.0]), share=1.0).item() == pytest.approx(np.log(2) / 4)


# ---- against references ----


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_torchs_on_the_counted_pixels(smoothing, weights):
    logits, targets = case()

    def reference(x: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(*counted(x, targets), weight=weights, label_smoothing=smoothing)

    assert_same(lambda x: cross_entropy(x, targets, weights, smoothing=smoothing), reference, logits)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_is_the_classifiers_on_the_counted_pixels(gamma, smoothing, weights):
    logits, targets = case()
    keywords = {"alpha": 0.25, "gamma": gamma, "smoothing": smoothing}
    assert_same(
        lambda x: focal(x, targets, weights, **keywords),
        lambda x: losses.focal(*counted(x, targets), weights=weights, **keywords),
        logits,
    )


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_dice_is_a_loop_over_classes(weights):
    logits, targets = case()

    def reference(x: torch.Tensor) -> torch.Tensor:
        pixels, truth = counted(x.double(), targets)
        p, total, divisor = pixels.softmax(1), torch.zeros((), dtype=torch.float64), 0.0
        for k in truth.unique().tolist():
            y = (truth == k).double()
            weight = 1.0 if weights is None else weights[k].item()
            total = total + weight * (1 - (2 * (p[:, k] * y).sum() + 1) / (p[:, k].sum() + y.sum() + 1))
            divisor += weight
        return total / divisor

    assert_same(lambda x: dice(x, targets, weights), reference, logits)


def jaccard_loss(wrong: set[int], own: set[int]) -> float:
    """The paper's equation 6: of a class with the pixels `own`, where the pixels `wrong` are mispredicted."""
    return len(wrong) / len(own | wrong)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_lovasz_is_its_definition(weights):
    """Equation 8 of arXiv 1705.08790: errors in descending order, each times the increase of the loss by its pixel."""
    logits, targets = case()

    def reference(x: torch.Tensor) -> torch.Tensor:
        pixels, truth = counted(x.double(), targets)
        p, total, divisor = pixels.softmax(1), torch.zeros((), dtype=torch.float64), 0.0
        for k in truth.unique().tolist():
            own = set((truth == k).nonzero().flatten().tolist())
            errors = torch.where(truth == k, 1 - p[:, k], p[:, k])
            weight, wrong = 1.0 if weights is None else weights[k].item(), set()
            for i in errors.argsort(descending=True).tolist():
                before = jaccard_loss(wrong, own)
                wrong = wrong | {i}
                total = total + weight * errors[i] * (jaccard_loss(wrong, own) - before)
            divisor += weight
        return total / divisor

    assert_same(lambda x: lovasz(x, targets, weights), reference, logits)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=30))
def test_lovasz_of_certain_predictions_is_one_minus_iou(pixels):
    predicted = torch.tensor([p for p, _ in pixels])
    truth = torch.tensor([t if t < 3 else IGNORE for _, t in pixels])
    logits = functional.one_hot(predicted, 3).T.reshape(1, 3, 1, -1) * 200.0
    keep = truth != IGNORE
    ious = [
        ((predicted == k) & (truth == k)).sum() / (((predicted == k) | (truth == k)) & keep).sum()
        for k in truth[keep].unique()
    ]
    expected = 1 - float(np.mean(ious)) if ious else 0.0
    assert lovasz(logits, truth.reshape(1, 1, -1)).item() == pytest.approx(expected, abs=1e-5)


def test_lovasz_is_precise_for_many_pixels():
    """Differences of float32 values near 1 come in multiples of 6e-8, a twentieth of a step of 1e-6."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 1000, 1000, generator=generator) + torch.tensor([2.0, 0.0])[:, None, None]
    targets = (torch.rand(1, 1000, 1000, generator=generator) < 2e-4).to(torch.uint8)
    value, gradient = value_and_gradient(lambda x: lovasz(x, targets), logits)
    p = logits.double().softmax(1).movedim(1, -1).reshape(-1, 2)
    expected = torch.zeros(p.shape, dtype=torch.float64)
    total = 0.0
    for k in (0, 1):
        own = targets.flatten() == k
        errors = torch.where(own, 1 - p[:, k], p[:, k])
        order = errors.argsort(descending=True)
        left = own.sum() - own[order].cumsum(0)
        jaccard = 1 - left.double() / (own.sum() + (~own[order]).cumsum(0))
        steps = torch.diff(jaccard, prepend=torch.zeros(1, dtype=torch.float64))
        total += (errors[order] * steps).sum().item() / 2
        expected[order, k] = torch.where(own[order], -steps, steps) / 2
    assert value.item() == pytest.approx(total, rel=1e-5)
    slope = p * (expected - (p * expected).sum(1, keepdim=True))  # through the softmax
    ours = gradient.double().movedim(1, -1).reshape(-1, 2)
    # float32 probabilities tie and swap neighbors, whose steps differ little: most agree far beyond 1 %
    off = ((ours - slope).abs() > 1e-2 * slope.abs() + 1e-12).double().mean()
    assert off < 1e-3


def test_against_segmentation_models_pytorch():
    smp = pytest.importorskip("segmentation_models_pytorch")
    logits, targets = case()
    targets = targets.long()
    theirs = smp.losses.LovaszLoss("multiclass", ignore_index=IGNORE)
    assert_same(lambda x: lovasz(x, targets), lambda x: theirs(x, targets), logits)
    # Its mean is over all five classes, of which four are present; its smooth counts twice (Tversky's form).
    theirs = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE, smooth=1.0)
    assert_same(lambda x: dice(x, targets, smooth=2.0) * 4 / 5, lambda x: theirs(x, targets), logits)


# ---- what holds for all of them ----


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_ignored_pixels_change_nothing_and_get_no_gradient(name, weights):
    logits, targets = case()
    ignored = (targets == IGNORE)[:, None].expand_as(logits)
    value, gradient = value_and_gradient(lambda x: LOSSES[name](x, targets, weights), logits)
    assert (gradient[ignored] == 0).all() and gradient.any()
    assert LOSSES[name](torch.where(ignored, -7 * logits, logits), targets, weights).item() == value.item()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_all_ignored_is_zero_with_a_graph(name, weights):
    logits, targets = case()
    value, gradient = value_and_gradient(lambda x: LOSSES[name](x, torch.full_like(targets, IGNORE), weights), logits)
    assert value.item() == 0 and value.dtype == torch.float32 and (gradient == 0).all()


@pytest.mark.parametrize("name", ALL)
def test_targets_of_weight_zero_have_a_loss_of_zero(name):
    logits, targets = case()
    value, gradient = value_and_gradient(lambda x: LOSSES[name](x, targets, torch.eye(CLASSES)[4]), logits)
    assert value.item() == 0 and (gradient == 0).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_types_and_memory_layout_do_not_matter(name, weights):
    logits, targets = case()
    value, gradient = value_and_gradient(lambda x: LOSSES[name](x, targets, weights), logits)
    other, same = value_and_gradient(
        lambda x: LOSSES[name](x, targets.long(), weights), logits.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(value, other)
    torch.testing.assert_close(gradient, same)


@pytest.mark.parametrize("name", ALL)
def test_low_precision_logits_are_computed_in_float32(name):
    logits, targets = case()
    low = logits.bfloat16()
    value = LOSSES[name](low, targets)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, LOSSES[name](low.float(), targets))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(LOSSES[name](low, targets), value)


@pytest.mark.parametrize(("name", "keywords"), [*((name, {}) for name in ALL), ("focal", {"gamma": 0.5})])
def test_extreme_logits_give_finite_values_and_gradients(name, keywords):
    logits = torch.tensor([[1e4, 0.0, -1e4], [0.0, 1e4, 0.0], [50.0, 0.0, 0.0]]).T.reshape(1, 3, 1, 3)
    value, gradient = value_and_gradient(
        lambda x: LOSSES[name](x, torch.zeros(1, 1, 3, dtype=torch.uint8), **keywords), logits
    )
    assert value.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_equal_weights_and_the_order_of_pixels_have_no_effect(name, weights):
    logits, targets = case()
    loss = LOSSES[name]
    torch.testing.assert_close(loss(logits, targets, torch.full((CLASSES,), 3.0)), loss(logits, targets))
    turned = loss(logits.flip(0, 3), targets.flip(0, 2), weights)
    torch.testing.assert_close(turned, loss(logits, targets, weights))


@pytest.mark.parametrize("name", ALL)
def test_a_step_along_the_gradient_lowers_the_loss(name):
    logits, targets = case()
    value, gradient = value_and_gradient(lambda x: LOSSES[name](x, targets), logits)
    assert LOSSES[name](logits - 0.1 * gradient / gradient.norm(), targets) < value


@pytest.mark.parametrize("name", ALL)
def test_certain_correct_predictions_have_a_loss_of_zero(name):
    _, targets = case()
    certain = functional.one_hot(torch.where(targets == IGNORE, 0, targets).long(), CLASSES).movedim(-1, 1) * 100.0
    assert LOSSES[name](certain, targets).item() == pytest.approx(0, abs=1e-6)


# ---- sums and weights ----


def test_a_sum_of_losses():
    logits, targets = case()
    loss = compound({"cross_entropy": 0.5, "focal": 2.0}, {"focal": {"gamma": 3.0}, "dice": {"smooth": 9.0}})
    expected = 0.5 * cross_entropy(logits, targets, WEIGHTS) + 2 * focal(logits, targets, WEIGHTS, gamma=3.0)
    torch.testing.assert_close(loss(logits, targets, weights=WEIGHTS), expected)
    torch.testing.assert_close(compound({"lovasz": 1.0})(logits, targets), lovasz(logits, targets))


def test_unknown_losses_are_named_all_at_once_and_smoothing_needs_a_mean_over_pixels():
    with pytest.raises(SightlineError, match="'jaccard', 'tversky'") as error:
        check(SegmentConfig(loss=Loss(terms={"jaccard": 1.0, "dice": 1.0, "tversky": 1.0})))
    assert "lovasz" in error.value.cure
    with pytest.raises(SightlineError, match="no label smoothing"):
        check(SegmentConfig(loss=Loss(name="ohem", smoothing=0.1)))
    check(SegmentConfig(loss=Loss(terms={"dice": 1.0, "cross_entropy": 1.0}, smoothing=0.1)))


def test_negative_log_likelihood_equals_pytorch_with_ignored_pixels() -> None:
    torch.manual_seed(0)
    logits, targets = 30 * torch.randn(2, 5, 6, 7), torch.randint(0, 5, (2, 6, 7))
    targets[0, :3] = IGNORE
    logits[0, :, 0, 0] = float("inf")  # below an ignored pixel, where nothing counts
    for memory in (torch.contiguous_format, torch.channels_last):
        mine, theirs = (logits.clone(memory_format=memory).requires_grad_() for _ in range(2))
        found = negative_log_likelihood(mine, targets.to(torch.uint8))
        expected = functional.cross_entropy(theirs, targets, ignore_index=IGNORE, reduction="none")
        torch.testing.assert_close(found, expected)
        found[1].sum().backward()
        expected[1].sum().backward()
        torch.testing.assert_close(mine.grad[1], theirs.grad[1])
    with pytest.raises((RuntimeError, IndexError)):
        negative_log_likelihood(logits, torch.full((2, 6, 7), 200, dtype=torch.uint8))
