"""FastNet's whitened first layer."""

import pytest
import torch

from sightline.models import fast


def test_the_first_layer_whitens_patches_however_many_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    images = torch.nn.functional.avg_pool2d(torch.randn(40, 3, 24, 24), 3, 1)
    net = fast.fastnet(16)
    net.whiten(images)  # ty: ignore[call-non-callable]
    stem = net.stem.weight.clone()  # ty: ignore[unresolved-attribute]
    values = torch.nn.functional.conv2d(images, stem[:27], stride=3).permute(1, 0, 2, 3).reshape(27, -1)
    covariance = values @ values.T / values.shape[1]
    assert (covariance - torch.diag(covariance.diagonal())).abs().max() < 1e-4, "the filters are not correlated"
    assert covariance.diagonal().max() < 1.001 and torch.equal(stem[27:], -stem[:27])
    monkeypatch.setattr(fast, "PIXELS", 3 * 22 * 22)  # three images at once
    net.whiten(images)  # ty: ignore[call-non-callable]
    again = net.stem.weight  # ty: ignore[unresolved-attribute]
    signs = (stem * again).sum((1, 2, 3)).sign()[:, None, None, None]
    torch.testing.assert_close(again * signs, stem, atol=1e-3, rtol=1e-3)
