"""The trivial segmentation networks: features of the colors around each pixel, and initial class frequencies."""

import numpy as np
import pytest
import torch

from sightline.models.segmentation.colors import SCALES, ColorStatistics, local_mean
from sightline.models.segmenters import build_segmenter


def random_images(channels: int, height: int = 21, width: int = 19) -> torch.Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_features_are_colors_products_means_and_deviations(channels: int) -> None:
    images = random_images(channels)
    network = ColorStatistics(channels)
    found = network(images)
    assert found.shape == (2, network.width, 21, 19)
    assert torch.equal(found[:, :channels], images)
    products = {float(value) for value in found[0, channels : network.width - 2 * channels * len(SCALES), 3, 7]}
    pixel = images[0, :, 3, 7]
    assert products == {float(pixel[i] * pixel[j]) for i in range(channels) for j in range(i, channels)}
    for row, column in ((0, 0), (20, 18), (10, 9)):
        for number, side in enumerate(SCALES):
            first, half = network.width - 2 * channels * (len(SCALES) - number), side // 2
            top, left = max(0, row - half), max(0, column - half)
            square = images[0, :, top : row + half + 1, left : column + half + 1].double().numpy()
            both = np.concatenate([square.mean((1, 2)), square.std((1, 2))])
            np.testing.assert_allclose(found[0, first : first + 2 * channels, row, column], both, atol=2e-3)


def test_flat_images_have_no_nan_and_finite_gradients() -> None:
    images = torch.full((1, 3, 9, 9), 0.7, requires_grad=True)
    found = ColorStatistics(3)(images)
    found.sum().backward()
    assert found.isfinite().all() and images.grad is not None and images.grad.isfinite().all()
    torch.testing.assert_close(local_mean(images, 17), images)


@pytest.mark.parametrize("name", ["constant", "colors"])
def test_the_first_predictions_are_the_class_frequencies(name: str) -> None:
    model = build_segmenter(name, 3, channels=4)
    model.network.begin_with(torch.tensor([699, 0, 298]))  # ty: ignore[call-non-callable]
    shares = model(random_images(4)).softmax(1)
    assert shares.shape == (2, 3, 21, 19)
    torch.testing.assert_close(shares, torch.tensor([0.7, 0.001, 0.299])[None, :, None, None].expand_as(shares))
