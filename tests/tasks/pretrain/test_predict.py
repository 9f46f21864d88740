"""A loaded backbone computes the features of `sightline predict --features`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline
from sightline import SightlineError
from sightline.config.schema import Config

pytestmark = pytest.mark.usefixtures("no_reports")


def test_a_loaded_backbone_computes_features_only(photos: Path, small: Callable[..., Config], tmp_path: Path) -> None:
    run = sightline.train(small(**{"train.epochs": 1}), photos / "train", out=tmp_path / "run", quiet=True)
    sightline.predict(run, photos / "val", out=tmp_path / "p.csv", features=True, quiet=True)
    expected = np.load(tmp_path / "p.features.npy")
    model: Any = sightline.load(run)
    np.testing.assert_allclose(model.features(photos / "val"), expected, rtol=1e-5, atol=1e-6)
    first = min((photos / "val" / "class_0").iterdir())
    with torch.inference_mode():
        features = model.model(model.transform(first)[None])[0].numpy()
    np.testing.assert_allclose(features, expected[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(SightlineError, match="predicts no labels") as caught:
        model.predict(first)
    assert "features" in caught.value.cure
    assert model.classes == () and repr(model) == f"<sightline model small_cnn, no classes, 16 px, {run.path}>"


def test_images_of_the_size_of_the_stored_ones_are_cropped_too(
    make_photos: Callable[..., Path], small: Callable[..., Config], tmp_path: Path
) -> None:
    """Without labels, the evaluated images are training images, which are stored with a margin for random crops."""
    images = make_photos(tmp_path / "photos", classes=1, size=20) / "train" / "class_0"
    settings = {"train.epochs": 1, "augment.resize": 20, "data.eval_crop": 0.8}
    model: Any = sightline.load(sightline.train(small(**settings), images, out=tmp_path / "run", quiet=True))
    assert model.predictor.decoded_size == (20, 20) and model.predictor.square.side == 16
    with Image.open(min(images.iterdir())) as image:
        center = image.crop((2, 2, 18, 18))
        np.testing.assert_allclose(model.transform(image), model.transform(center), atol=1e-6)
