import numpy as np
import pytest
import torch
from torch.nn import functional

from sightline.tasks.multilabel.losses import LOSSES, asymmetric, binary_cross_entropy

timm_losses = pytest.importorskip("timm.loss")


def case(soft: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 5, generator=generator, dtype=torch.float64).float() * 3
    targets = torch.rand(12, 5, generator=generator)
    return logits, targets if soft else (targets > 0.7).float()


def value_and_gradient(loss, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def same(ours, theirs, logits) -> None:
    for mine, reference in zip(value_and_gradient(ours, logits), value_and_gradient(theirs, logits), strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 2.0, 4.0, 0.25])])
def test_binary_cross_entropy_is_torchs_with_its_pos_weight(soft, weights):
    logits, targets = case(soft)
    reference = lambda x: functional.binary_cross_entropy_with_logits(x, targets, pos_weight=weights)  # noqa: E731
    same(lambda x: binary_cross_entropy(x, targets, weights), reference, logits)
    same(lambda x: asymmetric(x, targets, weights, negative_gamma=0, margin=0), reference, logits)


@pytest.mark.parametrize(("positive", "negative", "margin"), [(0, 4, 0.05), (1, 4, 0.05), (0, 2, 0.0), (2, 2, 0.2)])
def test_asymmetric_loss_and_its_gradient_are_timms(positive, negative, margin):
    logits, targets = case()
    reference = timm_losses.AsymmetricLossMultiLabel(
        gamma_neg=negative, gamma_pos=positive, clip=margin, disable_torch_grad_focal_loss=False
    )
    arguments = {"positive_gamma": positive, "negative_gamma": negative, "margin": margin}
    same(lambda x: asymmetric(x, targets, **arguments), lambda x: reference(x, targets) / targets.shape[1], logits)


def test_both_by_hand():
    # p = 3/4 with the label, p = 1/5 without it
    logits, targets = torch.tensor([[3.0, 0.25]]).log(), torch.tensor([[1.0, 0.0]])
    plain = -(np.log(0.75) + np.log(0.8)) / 2
    assert binary_cross_entropy(logits, targets).item() == pytest.approx(plain, rel=1e-6)
    weighted = -(3 * np.log(0.75) + np.log(0.8)) / 2
    assert binary_cross_entropy(logits, targets, torch.tensor([3.0, 9.0])).item() == pytest.approx(weighted, rel=1e-6)
    smooth = -(0.9 * np.log(0.75) + 0.1 * np.log(0.25) + 0.9 * np.log(0.8) + 0.1 * np.log(0.2)) / 2
    assert binary_cross_entropy(logits, targets, smoothing=0.2).item() == pytest.approx(smooth, rel=1e-6)
    focused = -(np.log(0.75) + 0.1**2 * np.log(0.9)) / 2
    value = asymmetric(logits, targets, negative_gamma=2, margin=0.1).item()
    assert value == pytest.approx(focused, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_extreme_logits_have_finite_values_and_gradients(loss):
    logits = torch.tensor([[200.0, -200.0, 0.0, 200.0, -200.0]])
    value, gradient = value_and_gradient(lambda x: loss(x, torch.tensor([[0.0, 1, 1, 1, 0]])), logits)
    assert value.isfinite() and gradient.isfinite().all()
