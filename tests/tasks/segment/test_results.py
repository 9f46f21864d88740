"""The baseline, and paths of predicted masks, which stay below the output folder."""

from pathlib import PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from sightline.tasks.segment.results import baselines, mask_names, within


def test_the_class_that_is_most_frequent_in_training_is_predicted_for_every_pixel() -> None:
    def split(*counts: list[int]) -> Any:
        return SimpleNamespace(counts=np.array(counts))

    training: Any = SimpleNamespace(
        parts=SimpleNamespace(train=split([1, 9, 5, 0], [9, 6, 0, 0]), val=split([4, 2, 6, 0]))
    )
    truth, predicted = np.repeat([0, 1, 2], [4, 2, 6]), np.full(12, 1)
    found, notes = baselines(training, 1.0)
    assert found["most_frequent_class"] == pytest.approx(jaccard_score(truth, predicted, average="macro"))
    assert found["most_frequent_class_pixel_accuracy"] == pytest.approx(2 / 12) and not notes


def test_masks_are_named_after_their_images_with_folders_if_ambiguous() -> None:
    assert mask_names(["val/0013_sat.jpg", "val/0014.png"]) == ["0013_mask.png", "0014_mask.png"]
    assert mask_names(["a/1_sat.jpg", "b/1_sat.jpg"]) == ["a/1_mask.png", "b/1_mask.png"]
    assert mask_names(["a/1_sat.jpg", "a/1.jpg"]) == ["a/1_sat_mask.png", "a/1_mask.png"]
    assert mask_names(["a/1.jpg", "a/1.png"]) == ["a/1.jpg_mask.png", "a/1.png_mask.png"]


@pytest.mark.parametrize("name", ["../../evil", "/evil", "//evil", "..", ".", "", "/", "a/../../evil", "evil/.."])
def test_names_in_shards_cannot_leave_the_folder(name: str) -> None:
    for names in ([f"{name}/1_sat.jpg", "b/1_sat.jpg"], [name, name], [name, f"{name}.png"]):
        for found in mask_names(names):
            path = PurePosixPath(found)
            assert not path.is_absolute() and ".." not in path.parts and path.name.endswith("_mask.png")


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        (r"C:\photos\a.jpg", "photos/a.jpg"),
        ("C:a.jpg", "a.jpg"),
        (r"\\host\share\a.jpg", "a.jpg"),
        (r"..\photos/a.jpg", "up/photos/a.jpg"),
        (r"a\0013.jpg", "a/0013.jpg"),
    ],
)
def test_drives_and_parents_of_windows_paths_are_removed(name: str, inside: str) -> None:
    assert within(PureWindowsPath(name)) == PurePosixPath(inside)
