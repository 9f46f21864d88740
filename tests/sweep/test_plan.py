"""What a sweep searches, and on which images its trials are ranked: sweeps of pre-trainings."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
from sightline.config.schema import Config
from sightline.errors import SightlineError

pytestmark = pytest.mark.usefixtures("forked")
QUICK = {"train.epochs": 1, "report.samples": 0, "pretrain.neighbors": 3}


def write_noise(folder: Path, count: int) -> Path:
    """Write PNG files of random pixels, without labels; returns the folder."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(count)
    for number in range(count):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def test_pre_trainings_are_ranked_on_the_validation_images_of_the_probe(
    small: Callable[..., Config], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    labeled = make_photos(tmp_path / "labeled", classes=2, train=10, val=7, size=16)
    write_noise(tmp_path / "flat", 32)
    write_noise(tmp_path / "split" / "train", 32)
    write_noise(tmp_path / "split" / "val", 3)
    for folder, trials in ((tmp_path / "flat", 2), (tmp_path / "split", 1)):
        out = tmp_path / f"sweep-{folder.name}"
        result = sightline.sweep(
            small(**QUICK), folder, out=out, trials=trials, quiet=True,
            **{"pretrain.probe": str(labeled), "optim.lr": [1e-3, 1e-2]},
        )  # fmt: skip
        values = result.values
        assert [row["state"] for row in result.trials] == ["complete"] * trials, result.trials
        assert values["selection"] == {"split": "val", "images": 14} and values["metric"] == "knn_accuracy"
        assert values["data"]["images"] == {"train": 32, "val": 14, "labeled": 20}
        page = result.report.read_text(encoding="utf-8")
        assert "selected by k-NN accuracy on the 14 images of the validation split" in page


def test_pre_trainings_on_unlabeled_images_without_a_probe_are_an_error_before_any_training(
    small: Callable[..., Config], tmp_path: Path
) -> None:
    images = write_noise(tmp_path / "images", 32)
    with pytest.raises(SightlineError, match="cannot be compared") as caught:
        sightline.sweep(small(**QUICK), images, out=tmp_path / "s", **{"optim.lr": [1e-3, 1e-2]})
    assert "--pretrain.probe LABELED" in caught.value.cure and not (tmp_path / "s").exists()
