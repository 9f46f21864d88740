"""What the page of a served pre-training shows of the data."""

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightline.config.schema import Config

serve = importlib.import_module("sightline.tasks.pretrain.serve")


def test_copies_of_the_probe_that_training_left_out_are_no_nearest_training_images(
    small: Callable[..., Config], make_photos: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "predictor", lambda *_, **__: None)
    labeled = make_photos(tmp_path / "labeled", classes=2, train=4, val=3, size=16)
    images = tmp_path / "images"
    images.mkdir()
    for label, number, name in ((0, 0, "a"), (0, 1, "b"), (1, 2, "c")):
        shutil.copy(labeled / "train" / f"class_{label}" / f"{number}.png", images / f"{name}.png")
    shutil.copy(labeled / "val" / "class_1" / "10001.png", images / "copy.png")
    for mode, shown in (("warn", ["a.png", "b.png", "c.png", "copy.png"]), ("leave_out", ["a.png", "b.png", "c.png"])):
        settings = {"data.path": str(images), "pretrain.probe": str(labeled), "data.on_copies": mode}
        model: Any = serve.served(tmp_path, small(**settings), "run", True, print)
        assert list(model.neighbors.train.names) == shown
