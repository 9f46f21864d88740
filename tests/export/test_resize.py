"""The resize in the graph equals Pillow's and torch's, for images of many shapes, in onnxruntime."""

import functools

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import checker
from PIL import Image
from torch.nn import functional

from sightline.data.channels import RGB, Channels
from sightline.data.decode.images import Square
from sightline.data.decode.kinds import Raster
from sightline.export.networks import Resize
from sightline.export.tracing import traced

SIDE = 24


@functools.cache
def resize(
    fit: str, resample: str, kept: tuple[int, int] = (SIDE, SIDE), share: float = 1.0, channels: Channels = RGB
) -> onnxruntime.InferenceSession:
    """The resize alone as a graph."""
    model = traced(Resize(Square(SIDE, fit, resample, share), kept, channels), ("squares",), 1, channels)
    checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng([height, width]).integers(0, 256, (2, height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("fit", "resample", "share"),
    [
        ("squash", "bilinear", 1.0),
        ("squash", "bicubic", 1.0),
        ("crop", "bilinear", 1.0),
        ("squash", "bilinear", 0.7),
        ("crop", "bicubic", 0.875),
    ],
)
def test_images_become_the_squares_of_evaluation(fit: str, resample: str, share: float) -> None:
    session = resize(fit, resample, share=share)
    for height, width in ((24, 24), (8, 10), (37, 50), (50, 37), (24, 60), (71, 140), (143, 140), (10, 90)):
        images = noise(height, width)
        (found,) = session.run(None, {"images": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})
        expected = np.stack([Square(SIDE, fit, resample, share).of(Image.fromarray(image)) for image in images])
        apart = np.abs(found - expected)
        assert apart.max() <= 1 and (apart > 0).mean() < 0.05, (height, width, apart.max(), (apart > 0).mean())
        assert (found == np.round(found)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fit", "dtype", "top"),
    [("squash", "uint8", 255.0), ("crop", "uint16", 4095.0), ("squash", "float32", 1.0), ("crop", "float32", 1.0)],
)
def test_other_channels_become_the_squares_of_evaluation(fit: str, dtype: str, top: float) -> None:
    """In float32 without rounding between the passes, and within the values of each channel, as in the cache."""
    channels = Channels(("a", "b", "c", "d"), dtype, top)
    session = resize(fit, "bicubic", channels=channels)
    for height, width in ((24, 24), (10, 8), (37, 50), (71, 140)):
        pixels = (noise(height, width).transpose(0, 3, 1, 2).reshape(6, height, width)[:4] * (top / 255)).astype(dtype)
        (found,) = session.run(None, {"images": pixels[None]})
        expected = Square(SIDE, fit, "bicubic").of(Raster(pixels)).astype(np.float64)
        apart = np.abs(found[0] - expected)
        if dtype == "float32":
            assert apart.max() < 1e-5
        else:
            assert apart.max() <= 1 and (apart > 0).mean() < 0.005 and (found == np.round(found)).all()
        assert (found[0].min((1, 2)) >= pixels.min((1, 2))).all() and (found[0].max((1, 2)) <= pixels.max((1, 2))).all()


def test_images_kept_small_in_the_cache_are_resized_without_rounding() -> None:
    session = resize("squash", "bilinear", kept=(8, 10))
    for height, width, exact in ((8, 10, True), (10, 8, False)):
        images = np.ascontiguousarray(noise(height, width).transpose(0, 3, 1, 2))
        (found,) = session.run(None, {"images": images})
        smooth = functional.interpolate(
            torch.from_numpy(images).float(), (SIDE, SIDE), mode="bilinear", antialias=True
        ).numpy()
        apart = float(np.abs(found - smooth).max())
        assert apart < 1e-3 if exact else 0.1 < apart < 2


def test_images_that_shrink_more_than_six_times_are_close() -> None:
    """Pillow averages boxes first there; for an image with structure the difference is small."""
    x = np.linspace(0, 12, 400)
    image = (127 + 120 * np.sin(x[:, None, None] + x[None, :, None] * np.array([1, 2, 3]))).astype(np.uint8)
    (found,) = resize("squash", "bilinear", share=1.0).run(None, {"images": image.transpose(2, 0, 1)[None].copy()})
    apart = np.abs(found[0] - Square(SIDE).of(Image.fromarray(image)))
    assert 0 < apart.mean() < 2
