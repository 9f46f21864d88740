"""Paths of predicted masks, which stay below the output folder."""

from pathlib import PurePosixPath

import pytest

from sightline.tasks.segment.results import mask_names


def test_masks_are_named_after_their_images_with_folders_if_ambiguous() -> None:
    assert mask_names(["val/0013_sat.jpg", "val/0014.png"]) == ["0013_mask.png", "0014_mask.png"]
    assert mask_names(["a/1_sat.jpg", "b/1_sat.jpg"]) == ["a/1_mask.png", "b/1_mask.png"]
    assert mask_names(["a/1_sat.jpg", "a/1.jpg"]) == ["a/1_sat_mask.png", "a/1_mask.png"]


@pytest.mark.parametrize("name", ["../../evil", "/evil", "//evil", "..", ".", "", "/", "a/../../evil", "evil/.."])
def test_names_in_shards_cannot_leave_the_folder(name: str) -> None:
    for names in ([f"{name}/1_sat.jpg", "b/1_sat.jpg"], [name, name], [name, f"{name}.png"]):
        for found in mask_names(names):
            path = PurePosixPath(found)
            assert not path.is_absolute() and ".." not in path.parts and path.name.endswith("_mask.png")
