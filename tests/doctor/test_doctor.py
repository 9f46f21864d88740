"""`sightline doctor` finds exactly the planted errors, and changes no file of the data."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
from conftest import class_image
from film_toys import write_films
from sightline.__main__ import run
from sightline.config.schema import Data
from sightline.data.sources.open import open_source
from sightline.doctor.checks import imbalance
from sightline.doctor.copies import FRAMES
from sightline.doctor.diagnosis import of_run
from sightline.doctor.findings import Diagnosis
from sightline.errors import SightlineError


def diagnose(data: Path | str, tmp_path: Path, **options: object) -> Diagnosis:
    return sightline.doctor(data, out=tmp_path / "out", quiet=True, **options)


def kinds(found: Diagnosis) -> dict[str, set[str]]:
    """The files of each kind of finding."""
    return {finding.kind: set(finding.files) for finding in found.findings}


def contents(folder: Path) -> dict[str, str]:
    """Modification time and SHA-256 of every file."""
    return {
        os.fsencode(path).decode(
            "latin-1"
        ): f"{path.stat().st_mtime_ns} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def faulty(make_photos: Callable[..., Path], tmp_path: Path) -> tuple[Path, dict[str, set[str]]]:
    """Images of 48 pixels with each kind of error, and the expected files by kind of finding."""
    root = make_photos(tmp_path / "photos", size=48)
    train = root / "train"

    def put(name: str, image: Image.Image, **options: object) -> str:
        image.save(root / name, **options)
        return name

    def new(number: int) -> Image.Image:
        return class_image(3, 500 + number, 48)

    shutil.copy(train / "class_0/0.png", train / "class_0/copy.png")
    put("train/class_0/again.png", Image.open(train / "class_0/0.png"), compress_level=1)
    put("val/class_1/leak.png", Image.open(train / "class_1/1.png"), compress_level=1)
    shutil.copy(train / "class_2/2.png", train / "class_3/other.png")
    smooth = Image.fromarray(np.random.default_rng(5).integers(0, 255, (6, 6, 3), np.uint8)).resize((48, 48))
    put("train/class_0/near.png", smooth)
    put("train/class_0/near.jpg", smooth, quality=80)
    put("val/class_0/dim.png", smooth.point(lambda value: int(value * 0.8)))
    whole = (train / "class_0/1.png").read_bytes()
    (train / "class_0/cut.png").write_bytes(whole[: len(whole) // 2])
    (train / "class_0/none.png").write_bytes(b"")
    buffer = io.BytesIO()
    new(0).save(buffer, "JPEG")
    (train / "class_0/cut.jpg").write_bytes(buffer.getvalue()[:-300])
    put("train/class_0/named.jpg", new(1), format="PNG")
    turned = Image.Exif()
    turned[0x0112] = 6
    transparent = new(2)
    transparent.putalpha(100)
    (train / ".ipynb_checkpoints").mkdir()
    new(3).save(train / ".ipynb_checkpoints" / "a.png")
    new(4).save(train / "class_1/._a.png")
    shutil.copy(train / "class_0/2.png", train / "class_0/no_ending")
    planted = {
        "duplicate": {"train/class_0/0.png", "train/class_0/copy.png", "train/class_0/again.png"},
        "leak": {"train/class_1/1.png", "val/class_1/leak.png"},
        "conflicting_labels": {"train/class_2/2.png", "train/class_3/other.png"},
        "near_leak": {"train/class_0/near.png", "train/class_0/near.jpg", "val/class_0/dim.png"},
        "unreadable": {"train/class_0/cut.png", "train/class_0/none.png", "train/class_0/cut.jpg"},
        "wrong_extension": {"train/class_0/named.jpg"},
        "tiny": {put("train/class_0/tiny.png", new(5).resize((5, 4)))},
        "huge": {put("train/class_0/huge.png", new(6).resize((300, 400)))},
        "long": {put("train/class_0/long.png", new(7).resize((16, 120)))},
        "plain": {put("train/class_0/plain.png", Image.new("RGB", (48, 48), "navy"))},
        "gray": {put("train/class_0/gray.png", new(8).convert("L"))},
        "transparent": {put("train/class_0/alpha.png", transparent)},
        "other_pixels": {
            put("train/class_0/deep.png", Image.fromarray(np.array(new(9).convert("L")).astype(np.uint16) * 257))
        },
        "cmyk": {put("train/class_0/print.jpg", new(10).convert("CMYK"), quality=95)},
        "rotated": {put("train/class_0/turned.jpg", new(11), quality=95, exif=turned)},
        "frames": {put("train/class_0/film.gif", new(12), save_all=True, append_images=[new(13)])},
        "hidden": {"train/.ipynb_checkpoints/", "train/class_1/._a.png"},
        "not_used": {"train/class_0/no_ending"},
    }
    return root, planted


def test_every_planted_error_is_found_and_nothing_else(
    faulty: tuple[Path, dict[str, set[str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, planted = faulty
    before = contents(root)
    assert run(["doctor", str(root), "--out", str(tmp_path / "out")]) == 5
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "doctor.json").read_text())
    found = {one["kind"]: set(one["files"]) for one in report["findings"]}
    assert found == planted
    severities = {one["kind"]: one["severity"] for one in report["findings"]}
    errors = {kind for kind, severity in severities.items() if severity == "error"}
    assert errors == {"unreadable", "leak", "conflicting_labels", "other_pixels"} and report["errors"] == 4
    assert all(one["why"] and one["cure"] for one in report["findings"])
    assert "it is empty (0 bytes)" in printed and "PNG named .jpg" in printed and "--fix" in printed
    assert contents(root) == before


def test_clean_data_have_no_findings(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    root = make_photos(tmp_path / "photos")
    assert run(["doctor", str(root), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    page = (tmp_path / "out" / "doctor.html").read_text()
    assert "Nothing was found in 80 images." in page and "unreadable images, " in page
    assert json.loads((tmp_path / "out" / "doctor.json").read_text())["findings"] == []
    assert not diagnose("sklearn:digits", tmp_path).findings, "images of 8 x 8 pixels are not compared"


@pytest.mark.usefixtures("no_reports")
def test_the_clean_list_can_be_trained_on(
    faulty: tuple[Path, dict[str, set[str]]],
    tmp_path: Path,
    tiny: dict[str, object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, planted = faulty
    path = tmp_path / "out" / "clean.csv"
    found = diagnose(root, tmp_path, fix=True)
    assert found.clean_list == path
    assert any("3 unreadable" in note and "1 other channels or bits" in note for note in found.notes)
    names = {line.split(",")[0].removeprefix("../photos/") for line in path.read_text().splitlines()[1:]}
    left_out = planted["unreadable"] | planted["conflicting_labels"] | planted["other_pixels"]
    left_out |= {"train/class_1/1.png", "train/class_0/copy.png", "train/class_0/again.png"}
    everything = {str(p.relative_to(root)) for p in root.rglob("*.*g*") if p.is_file() and ".i" not in str(p)}
    assert names == everything - left_out - {"train/class_1/._a.png"}
    again = kinds(diagnose(path, tmp_path))
    assert not {"unreadable", "leak", "conflicting_labels", "duplicate"} & again.keys()
    done = sightline.train("photos_scratch", path, out=tmp_path / "run", **tiny | {"train.epochs": 1})
    assert done.metrics["accuracy"] >= 0
    assert "doctor:" in capsys.readouterr().out
    with pytest.raises(SightlineError, match="already"):
        diagnose(root, tmp_path, fix=True)
    diagnose(root, tmp_path, fix=True, overwrite=True)


def test_names_with_markup_newlines_and_invalid_utf8(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    root = make_photos(tmp_path / "photos")
    strange = [b"<script>alert(1)</script>.png", b"two\nlines.png", b"caf\xe9.png", b" space.png"]
    for number, name in enumerate(strange):
        Path(os.fsdecode(os.fsencode(root / "train" / "class_0") + b"/" + name.replace(b"/", b"-"))).write_bytes(b"")
        class_image(0, 900 + number).save(os.fsencode(root / "train" / "class_0") + b"/ok" + name.replace(b"/", b"-"))
    found = diagnose(root, tmp_path, fix=True)
    assert len(kinds(found)["unreadable"]) == 4
    assert "<script>alert" not in found.page.read_text()
    assert "train/class_0/caf\udce9.png" in json.loads(found.json.read_text())["findings"][0]["files"]
    listed = diagnose(tmp_path / "out" / "clean.csv", tmp_path)
    assert listed.counts == {"train": 67, "val": 16}, "the name that is not UTF-8 is left out"


def test_missing_and_rare_classes(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    root = make_photos(tmp_path / "photos", train=20)
    shutil.rmtree(root / "val" / "class_3")
    for path in sorted((root / "train" / "class_2").iterdir())[2:]:
        path.unlink()
    found = {finding.kind: finding for finding in diagnose(root, tmp_path).findings}
    assert [group.note for group in found["missing_class"].groups] == ["class_3"]
    assert found["missing_class"].severity == "warning"
    assert found["imbalance"].groups[0].note == "class_2: 2 images"
    assert "--loss.class_weights balanced" in found["imbalance"].cure
    counts = {"train": np.array([40, 1, 1, 1])}
    (rare,) = imbalance(counts, ["apple", "aple", "Apple", "bear"])
    assert [group.note for group in rare.groups] == [
        "aple: 1 image; is it 'apple', misspelled?", "Apple: 1 image; is it 'apple', misspelled?", "bear: 1 image"
    ]  # fmt: skip
    assert rare.cure.startswith("correct labels that are misspelled")


def test_a_layout_that_train_rejects_is_a_finding(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    root = make_photos(tmp_path / "photos")
    shutil.copytree(root / "val" / "class_0", root / "val" / "class_8")
    (root / "train" / "class_0" / "none.png").write_bytes(b"")
    found = kinds(diagnose(root, tmp_path))
    assert {"layout", "unreadable", "duplicate"} <= found.keys(), "without labels, copies are duplicates"
    with pytest.raises(SightlineError, match="clean list cannot be written"):
        diagnose(root, tmp_path, fix=True)


def test_a_folder_without_images_is_an_error_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["doctor", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2
    assert run(["doctor", str(tmp_path / "nowhere")]) == 2
    assert "no images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_files_of_other_programs_are_not_overwritten(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "doctor.json").write_text("{}")
    with pytest.raises(SightlineError, match="of another program would be overwritten"):
        diagnose(photos, tmp_path)
    with pytest.raises(SightlineError, match="inside the data"):
        sightline.doctor(photos, out=photos / "out", quiet=True)


def test_only_data_settings_are_accepted(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", str(photos), "--optim.lr", "1"]) == 2
    assert run(["doctor", str(photos), "--data.layot", "csv"]) == 2
    assert "data.layout" in capsys.readouterr().err


def test_images_of_the_page_are_embedded(faulty: tuple[Path, dict[str, set[str]]], tmp_path: Path) -> None:
    page = diagnose(faulty[0], tmp_path).page.read_text()
    assert page.count("data:image/") >= 20
    assert 'src="http' not in page and "style=" not in page


@pytest.mark.filterwarnings("ignore:.*orrupt EXIF")
def test_damaged_exif_blocks_are_listed(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    root = make_photos(tmp_path / "photos")
    path = root / "train" / "class_0" / "damaged.jpg"
    class_image(0, 700).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff\xff", quality=95)
    assert kinds(diagnose(root, tmp_path)) == {"exif": {"train/class_0/damaged.jpg"}}


@pytest.mark.parametrize("videos", [True, False])
def test_files_named_like_frames_suggest_data_group(tmp_path: Path, videos: bool) -> None:
    random = np.random.default_rng(5)
    for label in ("cat", "dog"):
        for video in range(3):
            first = Image.fromarray(random.integers(0, 255, (6, 6, 3), np.uint8)).resize((48, 48))
            for frame in range(3):
                name = f"video{video}_{frame:04}.png" if videos else f"{label}_{video}{frame}.png"
                path = tmp_path / "data" / label / name
                path.parent.mkdir(parents=True, exist_ok=True)
                first.point(lambda value, frame=frame: int(value * (1 - 0.1 * frame))).save(path)
    findings = {one.kind: one for one in diagnose(tmp_path / "data", tmp_path).findings}
    assert {*findings} == {"near_duplicate", *["film_unsplit"] * videos}
    finding = findings["near_duplicate"]
    assert len(finding.groups) == 6
    assert (f"--data.group '{FRAMES}'" in finding.cure) == videos, "a class with a single group cannot be divided"
    if videos:
        splits = open_source(Data(path=str(tmp_path / "data"), group=FRAMES), 0).splits
        sides = [{name[:10] for name in items.names} for items in splits.values()]
        assert len(sides[1]) == 2 and not sides[0] & sides[1]


def test_shards_are_checked_like_the_folder_that_was_packed(
    make_photos: Callable[..., Path], make_scenes: Callable[..., Path], tmp_path: Path
) -> None:
    photos = make_photos(tmp_path / "photos", 2, 6, 2)
    copied = photos / "train" / "class_0" / "again.png"
    shutil.copy(next((photos / "val" / "class_0").iterdir()), copied)
    packed = sightline.pack(photos, tmp_path / "packed", quiet=True, **{"data.on_copies": "warn"})
    found = diagnose(packed, tmp_path)
    assert found.counts == {"train": 13, "val": 4} and copied.relative_to(photos).as_posix() in kinds(found)["leak"]
    assert found.understood["classes"] == "2: class_0 9, class_1 8" and found.understood["sizes"] == "all 16 x 16"
    (packed / "index.json").unlink()  # then shards of another program, of which one can be checked alone
    alone = diagnose(packed / "train-000000.tar", tmp_path)
    assert alone.counts == {"train": 13} and alone.understood["classes"] == "2: 0 7, 1 6"
    masks = sightline.pack(
        make_scenes(tmp_path / "land"), tmp_path / "tiles", quiet=True, **{"data.palette": "landcover"}
    )
    assert "%" in diagnose(masks, tmp_path).understood["classes"]
    with pytest.raises(SightlineError, match="on a server"):
        diagnose("https://host/set", tmp_path)


@pytest.mark.parametrize(
    ("splits", "options", "kind"),
    [
        ([""], [], "film_unsplit"),
        ([""], ["--data.group", "{group}_*"], None),
        (["train", "val"], [], "film_leak"),
    ],
)
def test_films_that_a_split_divides(splits: list[str], options: list[str], kind: str | None, tmp_path: Path) -> None:
    write_films(tmp_path / "data", tuple(splits))
    run(["doctor", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--quiet", *options])
    found = json.loads((tmp_path / "out" / "doctor.json").read_text())["findings"]
    films = {one["kind"]: one for one in found if one["kind"].startswith("film_")}
    assert list(films) == [kind] * (kind is not None)
    assert all("--data.group" in one["cure"] for one in films.values())


def test_a_clean_list_of_label_sets_and_groups_says_how_to_train_on_it(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / f"{index}.png")
    labels = ["cat;dog", "dog", "cat", ""]
    rows = "".join(f"{index}.png,{labels[index % 4]},p{index // 4}\n" for index in range(12))
    (root / "labels.csv").write_text("shot,animals,group\n" + rows)
    columns = {"file_column": "shot", "label_column": "animals"}  # those of the clean list are called otherwise
    found = diagnose(root, tmp_path, fix=True, **{f"data.{key}": value for key, value in columns.items()})
    assert found.notes[-1].endswith(f"--data {found.clean_list} --data.labels several --data.separator ';'")
    data = Data(path=str(found.clean_list), labels="several", separator=";")
    source = open_source(data, 0, hold_out=False)
    items = source.splits["all"]
    groups = {int(Path(name).stem): group for name, group in zip(items.names, items.groups or (), strict=True)}
    assert source.classes == ("cat", "dog") and groups == {index: f"p{index // 4}" for index in range(12)}
    before = open_source(Data(path=str(root), labels="several", **columns), 0, hold_out=False)
    np.testing.assert_array_equal(items.labels, before.splits["all"].labels)


def test_a_clean_list_has_the_groups_of_names_and_keeps_settings(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for index in range(12):
        path = root / f"class_{index % 2}" / f"film{index // 4}_{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    settings = {"data.group": "{group}_*", "data.channels": "rgb"}
    found = diagnose(root, tmp_path, fix=True, **settings)
    assert found.notes[-1].endswith("--data.channels rgb")
    source = open_source(Data(path=str(found.clean_list)), 0, hold_out=False)
    assert {*(source.splits["all"].groups or ())} == {"film0", "film1", "film2"}


def test_a_split_whose_images_are_all_damaged_is_a_finding(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    root = make_photos(tmp_path / "photos", test=2)
    for path in (root / "test").rglob("*.png"):
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    found = diagnose(root, tmp_path)
    (one,) = [one for one in found.findings if one.kind == "unreadable"]
    assert len(one.files) == 8 and one.cure.endswith(
        "--data.on_bad_image skip; or write a table of the other images: --fix"
    )


def test_cures_of_masks_are_those_that_masks_have(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    root = make_scenes(tmp_path / "scenes")
    next(root.rglob("*_sat.jpg")).write_bytes(b"torn")
    found = diagnose(root, tmp_path, **{"data.palette": "landcover"})
    (one,) = [one for one in found.findings if one.kind == "unreadable"]
    assert "--fix" not in one.cure and "on_bad_image" not in one.cure


def test_the_page_of_a_run_shows_its_moved_data(make_photos: Callable[..., Path], tiny: dict, tmp_path: Path) -> None:
    data = make_photos(tmp_path / "old")
    done = sightline.train(
        "photos_scratch",
        data,
        out=tmp_path / "run",
        **tiny | {"train.epochs": 8, "optim.lr": 0.02, "report.samples": 0},
    )
    moved = data.rename(tmp_path / "new")
    lost, found = (sightline.doctor(done.path, quiet=True, **more) for more in ({}, {"data.path": str(moved)}))
    assert lost.notes[0].startswith("the page shows no images") and "--data.path NEW" in lost.notes[0]
    assert not found.notes


def test_a_run_accepts_no_other_setting_than_the_place_of_its_data(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"--data\.size has no effect on a run"):
        of_run(tmp_path, False, tmp_path, "", {"data.path": "new", "data.size": 9})
