"""All invalid pairs and masks are reported together."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
from sightline.doctor.findings import Finding


def diagnose(data: Path, tmp_path: Path) -> dict[str, Finding]:
    found = sightline.doctor(data, out=tmp_path / "out", quiet=True, **{"data.palette": "landcover"})
    assert found.task == "segment"
    return {finding.kind: finding for finding in found.findings}


def test_valid_pairs_have_no_findings_except_missing_classes(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    assert not diagnose(make_scenes(tmp_path / "land", train=12, val=8), tmp_path).keys() - {"missing_class"}


def test_all_invalid_pairs_are_found(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    root = make_scenes(tmp_path / "land", train=12)
    train = root / "train"
    (train / "0000_mask.png").unlink()
    (train / "0001_sat.jpg").unlink()
    Image.open(train / "0002_mask.png").resize((16, 16), Image.Resampling.NEAREST).save(train / "0002_mask.png")
    Image.open(train / "0004_mask.png").save(train / "0004_mask.png", format="JPEG")
    (train / "0005_mask.png").write_bytes(b"")
    Image.new("RGB", (32, 32)).save(train / "0006_mask.png")
    (train / "0007_sat.jpg").write_bytes((train / "0007_sat.jpg").read_bytes()[:200])
    found = diagnose(root, tmp_path)
    expected = {
        "image_without_mask": {"train/0000_sat.jpg"},
        "mask_without_image": {"train/0001_mask.png"},
        "mask_size": {"train/0002_sat.jpg", "train/0002_mask.png"},
        "unreadable_mask": {"train/0005_mask.png"},
        "empty_mask": {"train/0006_mask.png"},
        "unreadable": {"train/0007_sat.jpg"},
    }
    assert {kind: set(found[kind].files) for kind in expected} == expected
    assert all(found[kind].severity == "error" for kind in expected.keys() - {"empty_mask"})
    assert "lossy JPEG" in found["mask"].groups[0].note


def test_a_value_outside_the_palette_is_reported_with_its_position(tmp_path: Path) -> None:
    root, random = tmp_path / "cells", np.random.default_rng(0)
    for number in range(6):
        for folder, pixels in (
            ("images", random.integers(0, 255, (16, 16, 3))),
            ("masks", random.integers(0, 2, (16, 16))),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            pixels[5, 7] = 9 if number == 3 and folder == "masks" else pixels[5, 7]
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder / f"{number}.png")
    (root / "classes.txt").write_text("cell\nground\n")
    (finding,) = sightline.doctor(root, out=tmp_path / "out", quiet=True).findings
    assert finding.kind == "mask" and finding.files == ("masks/3.png",)
    assert "9 (1 px, first at x=7, y=5)" in finding.groups[0].note and "classes.txt" in finding.cure


def test_a_missing_palette_is_a_finding_and_the_images_are_checked(
    make_scenes: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_scenes(tmp_path / "land")
    (root / "validation" / "0900_sat.jpg").write_bytes(b"")
    found = sightline.doctor(root, out=tmp_path / "out", quiet=True)
    kinds = {finding.kind: finding for finding in found.findings}
    assert {"palette", "unreadable"} <= kinds.keys() and "landcover" in kinds["palette"].cure


def test_a_clean_list_of_masks_is_an_error(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    root = make_scenes(tmp_path / "land")
    with pytest.raises(sightline.SightlineError, match="clean list cannot be written"):
        sightline.doctor(root, out=tmp_path / "out", fix=True, quiet=True)
