"""What the page of a served classifier shows of the data."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from config_toys import configured
from sightline.runs.atomic import write_json
from sightline.tasks.whole_image.serve import indexed, served_classifier

NETWORK: Any = SimpleNamespace(models=[None], classes=("class_0", "class_1"))


def test_copies_that_training_left_out_are_no_nearest_training_images(
    make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_photos(tmp_path / "data", classes=2, train=4, val=2, size=16)
    shutil.copy(data / "val" / "class_0" / "10000.png", data / "train" / "class_0" / "copy.png")
    for mode, count in (("warn", 9), ("leave_out", 8)):
        config = configured({"task": "classify", "data.path": str(data), "data.size": 16, "data.on_copies": mode})
        index = indexed(config, NETWORK, print)
        assert len(index.rows) == count and ("train/class_0/copy.png" in index.train.names) == (mode == "warn")


def test_changed_images_are_named(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    data = make_photos(tmp_path / "data", classes=2, train=4, val=2, size=16)
    config, said = configured({"task": "classify", "data.path": str(data), "data.size": 16}), list[str]()
    write_json(tmp_path / "run" / "provenance.json", {"data": {"digest": {"train": "others", "val": "others"}}})
    model = served_classifier(config, NETWORK, "run", True, said.append, np.negative, folder=tmp_path / "run")
    assert [line for line in said if "the images of val have changed" in line] and len(model.examples.names) == 4
    assert not [line for line in said if "train" in line]  # shards have another digest, and resized images too
