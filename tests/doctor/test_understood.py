"""The doctor prints first what it understood of the data, and shows pictures as a network gets them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
from conftest import class_image
from sightline.__main__ import run
from sightline.doctor.findings import Diagnosis
from sightline.doctor.understood import spread


def diagnose(data: Path, tmp_path: Path, **settings: object) -> Diagnosis:
    return sightline.doctor(data, out=tmp_path / "out", quiet=True, **settings)


def test_images_of_classes(
    make_photos: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_photos(tmp_path / "photos", size=48)
    class_image(0, 900, 64).save(root / "train" / "class_0" / "large.jpg")
    (root / "train" / "class_0" / "none.png").write_bytes(b"")
    found = diagnose(root, tmp_path)
    assert found.understood == {
        "layout": found.understood["layout"],
        "images": "82 images: 66 in train, 16 in val; 1 cannot be read",
        "classes": "4: class_0 22, class_1 20, class_2 20, class_3 20",
        "sizes": "2 sizes, 48 x 48 to 64 x 64; 99% have 48 x 48",
        "pixels": "color, 8 bits; 80 PNG, 1 JPEG",
        "groups": "none by file names; near copies, if frequent, count as one image",
    }
    assert found.understood["layout"].startswith("found train/ and val/: class folders")
    assert [picture.label for picture in found.pictures][:4] == [f"class_{index}" for index in range(4)]
    run(["doctor", str(root), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert printed.index("  classes  4: class_0 22") < printed.index("error: 1 unreadable image")
    assert "What was understood" in found.page.read_text()


def test_images_are_shown_as_a_network_gets_them(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    root = make_photos(tmp_path / "photos", size=48)
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste("blue", (0, 0, 30, 30))
    for path in (root / "train" / "class_0").iterdir():
        wide.save(path)
    crop = diagnose(root, tmp_path, **{"data.size": 24, "data.fit": "crop"}).pictures[0].image
    squash = diagnose(root, tmp_path, **{"data.size": 24}).pictures[0].image
    assert crop.size == squash.size == (24, 24)
    assert crop.getpixel((2, 12)) == (255, 0, 0), "the middle third is red"
    assert squash.getpixel((2, 12)) == (0, 0, 255)
    own = {"data.size": 0, "data.fit": "pretrained", "data.filter": "pretrained", "data.eval_crop": 0}
    assert diagnose(root, tmp_path, **own).pictures[0].image.size == (30, 30), "no model, so the defaults are used"


def test_masks_have_shares_of_pixels_a_palette_and_pictures(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    root = make_scenes(tmp_path / "land", train=12, val=8)
    found = diagnose(root, tmp_path, **{"data.palette": "landcover"})
    assert found.understood["palette"].startswith("urban #00ffff, agriculture #ffff00")
    assert found.understood["palette"].endswith("; ignored: unknown")
    shares = [float(part.rpartition(" ")[2][:-1]) for part in found.understood["classes"].split(": ")[1].split(", ")]
    assert sum(shares) == pytest.approx(100, abs=0.3) and len(shares) == 6
    assert found.colors[0] == (0, 255, 255) and len(found.pictures) == 10
    assert found.page.read_text().count('class="dot square"') == 6


def test_numbers_label_sets_and_groups(tmp_path: Path) -> None:
    rows = {"numbers.csv": "filename,label\n", "sets.csv": "filename,label\n"}
    for index in range(12):
        class_image(index % 3, index, 16).save(tmp_path / f"{index}.png")
        rows["numbers.csv"] += f"{index}.png,{index}.5\n"
        rows["sets.csv"] += f"{index}.png,{'sun;sea' if index % 2 else 'sun'}\n"
    for name, text in rows.items():
        (tmp_path / name).write_text(text)
    number = diagnose(tmp_path / "numbers.csv", tmp_path, **{"data.labels": "number"})
    assert number.understood["classes"] == "each image has a number, 0.5 to 11.5, median 6"
    sets = diagnose(tmp_path / "sets.csv", tmp_path, **{"data.labels": "several", "data.group": r"(?P<group>.)"})
    assert sets.understood["classes"] == "2: sea 6, sun 12; 1.5 labels per image"
    assert sets.understood["groups"] == "10 in all (data.group)"


def test_groups_of_a_table(tmp_path: Path) -> None:
    rows = ["filename,label,group"]
    for index in range(12):
        class_image(index % 3, index, 16).save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,{'sun' if index % 2 else 'sea'},patient {index // 4}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    assert diagnose(tmp_path / "table.csv", tmp_path).understood["groups"] == "3 in all (the column `group`)"
    ungrouped = diagnose(tmp_path / "table.csv", tmp_path, **{"data.group": "none"})
    assert ungrouped.understood["groups"] == "none by file names; near copies, if frequent, count as one image"


def test_many_classes_are_abbreviated(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for index in range(20):
        for number in range(2 if index else 5):
            path = root / f"c{index:02}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            class_image(index % 4, 10 * index + number, 16).save(path)
    text = diagnose(root, tmp_path).understood["classes"]
    assert text.startswith("20: c00 5, c01 2, ") and ", ... 8 more ..., c14 2" in text


def test_pictures_are_spread_over_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [50, 3, 1])
    chosen = spread(labels, len(labels))
    assert [int(labels[index]) for index in chosen].count(2) == 1 and {*labels[chosen].tolist()} == {0, 1, 2}
    assert spread(None, 100) == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert len(spread(np.arange(40), 40)) == 10 and spread(None, 3) == [0, 1, 2]


def test_a_table_above_the_folder_is_named(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    root = make_photos(tmp_path / "photos") / "train" / "class_0"
    assert diagnose(root, tmp_path).understood["classes"] == "no labels"
    rows = "".join(f"{path.name},cat\n" for path in root.iterdir())
    (root.parent / "labels.csv").write_text("filename,label\n" + rows)
    assert f"sightline doctor {root.parent / 'labels.csv'}" in diagnose(root, tmp_path).understood["classes"]
