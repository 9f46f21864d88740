"""Where the masks of images go: below their folder, whatever the images are called."""

from pathlib import PurePosixPath

import pytest

from sightline.tasks.segment.results import mask_names


def test_masks_are_named_after_their_images_with_their_folders_where_these_clash() -> None:
    assert mask_names(["val/0013_sat.jpg", "val/0014.png"]) == ["0013_mask.png", "0014_mask.png"]
    assert mask_names(["a/1_sat.jpg", "b/1_sat.jpg"]) == ["a/1_mask.png", "b/1_mask.png"]
    assert mask_names(["a/1_sat.jpg", "a/1.jpg"]) == ["a/1_sat_mask.png", "a/1_mask.png"]


@pytest.mark.parametrize("name", ["../../evil", "/evil", "//evil", "..", ".", "", "/", "a/../../evil", "evil/.."])
def test_no_name_of_a_strangers_shard_leads_out_of_the_folder(name: str) -> None:
    for names in ([f"{name}/1_sat.jpg", "b/1_sat.jpg"], [name, name], [name, f"{name}.png"]):
        for found in mask_names(names):
            path = PurePosixPath(found)
            assert not path.is_absolute() and ".." not in path.parts and path.name.endswith("_mask.png")
