"""All layouts of image-mask pairs are recognized, and unmatched, ambiguous and invalid masks are reported at once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
from sightline.config.schema import Data
from sightline.data.decode.masks import MaskFacts
from sightline.data.decode.palettes import IGNORE, Palette
from sightline.data.pair_cache import decode_all, decode_pairs
from sightline.data.sources.pair_layouts import mask_path
from sightline.data.sources.pairs import guess_palette, open_pairs
from sightline.data.types import Source
from sightline.errors import SightlineError

CLASSES = ("road", "car", "sky")


def put(root: Path, *names: str, size: tuple[int, int] = (4, 6)) -> None:
    """Write images, and masks for names of masks. The ids in a mask are its index in the list modulo 3."""
    for index, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if any(word in name for word in ("mask", "label", "annot")):
            Image.fromarray(np.full(size, index % 3, np.uint8)).save(path)
        else:
            Image.fromarray(np.full((*size, 3), 20 * index % 256, np.uint8)).save(path)


def opened(path: Path, hold_out: bool = True, seed: int = 0, **settings: object) -> tuple[Source, Palette]:
    given: dict[str, object] = {"path": str(path), "classes": CLASSES, **settings}
    return open_pairs(Data.model_validate(given), seed, hold_out)


def open_error(path: Path, hold_out: bool = True, **settings: object) -> SightlineError:
    """Return the error that opening `path` raises; it must have `where` and `cure`."""
    with pytest.raises(SightlineError) as caught:
        opened(path, hold_out, **settings)
    assert caught.value.where and caught.value.cure
    return caught.value


def pairs(source: Source) -> dict[str, dict[str, str]]:
    """Split -> image -> mask."""
    return {
        split: dict(zip(items.names, items.mask_names or (), strict=True)) for split, items in source.splits.items()
    }


@pytest.mark.parametrize("val", ["validation", "val", "valid"])
def test_pairs_in_one_folder(tmp_path: Path, val: str) -> None:
    put(tmp_path / "train", "0013_sat.jpg", "0013_mask.png", "7_sat.jpg", "7_mask.png", "8.png", "8_mask.png")
    put(tmp_path / val, "0062_sat.jpg", "0062_mask.png")
    source, palette = opened(tmp_path)
    train = {f"train/{a}": f"train/{b}" for a, b in (("0013_sat.jpg", "0013_mask.png"), ("7_sat.jpg", "7_mask.png"))}
    assert pairs(source) == {
        "train": train | {"train/8.png": "train/8_mask.png"},
        "val": {f"{val}/0062_sat.jpg": f"{val}/0062_mask.png"},
    }
    assert (source.layout, source.classes, palette.classes) == ("pairs", CLASSES, CLASSES)
    items = source.splits["train"]
    assert items.labels is None and items.read_mask is not None
    assert [int(items.read_mask(i)[0, 0]) for i in range(3)] == [1, 0, 2] and items.read(0).size == (6, 4)
    text = "\n".join(source.notes)
    assert f"train in train/, val in {val}/" in text and "0013_sat.jpg with train/0013_mask.png" in text
    assert "3 train + 1 val image-mask pairs of 3 classes" in text


@pytest.mark.parametrize("annot", ["trainannot", "train_labels", "train-masks", "TrainAnnotations"])
def test_a_folder_of_masks_beside_each_split(tmp_path: Path, annot: str) -> None:
    put(tmp_path, "train/a.jpg", f"{annot}/a.png", "train/b.jpg", f"{annot}/b.png")
    put(tmp_path, "val/c.jpg", "valannot/c.png", "test/d.jpg", "testannot/d.png")
    source, _ = opened(tmp_path)
    assert pairs(source) == {
        "train": {"train/a.jpg": f"{annot}/a.png", "train/b.jpg": f"{annot}/b.png"},
        "val": {"val/c.jpg": "valannot/c.png"},
        "test": {"test/d.jpg": "testannot/d.png"},
    }
    assert source.layout == "folders"


@pytest.mark.parametrize("masks", ["masks", "labels", "annotations", "annots", "Masks"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_folder_of_images_and_a_folder_of_masks(tmp_path: Path, masks: str, inside: bool) -> None:
    def at(kind: str, split: str, name: str) -> str:
        return f"{split}/{kind}/{name}" if inside else f"{kind}/{split}/{name}"

    expected = {}
    for split, folder in (("train", "training"), ("val", "validation")):
        wanted = {at("images", folder, f"{n}.jpg"): at(masks, folder, f"{n}.png") for n in ("deep/1", f"2{split}")}
        put(tmp_path, *wanted)
        for name in wanted.values():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ones((4, 6), np.uint8)).save(tmp_path / name)
        expected[split] = wanted
    source, _ = opened(tmp_path)
    assert pairs(source) == expected and source.layout == "folders"


def test_unsplit_pairs_are_held_out_by_seed(tmp_path: Path) -> None:
    put(tmp_path, *(f"images/{i:02}_sat.jpg" for i in range(20)), *(f"masks/{i:02}_mask.png" for i in range(20)))
    source, _ = opened(tmp_path, val_fraction=0.25)
    got = pairs(source)
    assert (len(got["train"]), len(got["val"])) == (15, 5) and not got["train"].keys() & got["val"].keys()
    assert all(
        mask == image.replace("images", "masks").replace("_sat.jpg", "_mask.png")
        for image, mask in (got["train"] | got["val"]).items()
    )
    assert pairs(opened(tmp_path, val_fraction=0.25)[0]) == got
    assert pairs(opened(tmp_path, val_fraction=0.25, seed=1)[0])["val"] != got["val"]
    note = next(note for note in source.notes if "held out" in note)
    assert "25% of the pairs" in note and "seed 0" in note
    read = source.splits["val"].read_mask  # subset carries the masks
    indices = [int(name.split("/")[1][:2]) for name in source.splits["val"].names]
    assert read is not None and [int(read(i)[0, 0]) for i in range(5)] == [(20 + index) % 3 for index in indices]
    assert list(pairs(opened(tmp_path, hold_out=False)[0])) == ["all"]


def test_loose_images_beside_a_folder_of_masks(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg", "masks/a.png", "masks/b.png")
    assert pairs(opened(tmp_path, hold_out=False)[0]) == {"all": {"a.jpg": "masks/a.png", "b.jpg": "masks/b.png"}}


def test_a_test_split_without_masks(tmp_path: Path) -> None:
    put(tmp_path, "train/1_sat.jpg", "train/1_mask.png", "train/2_sat.jpg", "train/2_mask.png", "test/3_sat.jpg")
    source, _ = opened(tmp_path, val_fraction=0.5)
    assert {split: len(items.names) for split, items in source.splits.items()} == {"train": 1, "val": 1, "test": 1}
    assert source.splits["test"].read_mask is None and source.splits["test"].subset(np.array([0])).read_mask is None
    assert "test has no masks" in source.notes and any(
        "the split test is not used for validation" in note for note in source.notes
    )
    put(tmp_path, "test/4_sat.jpg", "test/4_mask.png")
    assert "1 of 4 images have no mask" in open_error(tmp_path).what  # if some images have masks, all must
    (tmp_path / "val").mkdir()
    (tmp_path / "test/4_mask.png").unlink()
    put(tmp_path, "val/5_sat.jpg")
    assert "val/5_sat.jpg" in open_error(tmp_path).why
    assert opened(tmp_path, hold_out=False)[0].splits["val"].read_mask is None


@pytest.mark.parametrize(
    ("template", "image", "mask"),
    [
        ("{stem}_label.png", "train/x_1.jpg", "train/x_1_label.png"),
        ("{id}_label.png", "train/x_rgb.jpg", "train/x_label.png"),
        ("../labels/{stem}.png", "train/images/x.png", "train/labels/x.png"),
        ("../{folder}_labels/{stem}_L.png", "train/0001.png", "train_labels/0001_L.png"),
        ("../../gt/{folder}/{id}_labelIds.png", "city/ulm/x_left.png", "gt/ulm/x_labelIds.png"),
        ("{stem}.mask.tif", "train/[a](b).jpg", "train/[a](b).mask.tif"),
    ],
)
def test_templates(tmp_path: Path, template: str, image: str, mask: str) -> None:
    assert mask_path(image, template) == mask
    others = [name.replace("x", "y").replace("0001", "0002").replace("[a]", "[b]") for name in (image, mask)]
    put(tmp_path, image, mask, *others)
    source, _ = opened(tmp_path, mask=template, hold_out=False)
    (got,) = pairs(source).values()
    assert got == {image: mask, others[0]: others[1]} and source.layout == "template"
    put(tmp_path, mask.replace("x", "z").replace("0001", "0003").replace("[a]", "[c]"))
    assert "1 of 3 masks have no image" in open_error(tmp_path, mask=template, hold_out=False).what


def test_a_template_can_refer_to_other_folders(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.jpg", "photos/b.jpg", "truth_masks/a.png")
    template = "../truth_masks/{stem}.png"
    error = open_error(tmp_path / "photos", mask=template)
    assert "1 of 2 images have no mask" in error.what and "the mask of 'b.jpg' is '../truth_masks/b.png'" in error.cure
    put(tmp_path, "photos/c.jpg", "truth_masks/c.png")
    (tmp_path / "photos/b.jpg").unlink()
    source, _ = opened(tmp_path / "photos", mask=template, hold_out=False)
    assert pairs(source)["all"] == {"a.jpg": "../truth_masks/a.png", "c.jpg": "../truth_masks/c.png"}
    items = source.splits["all"]
    assert items.read_mask is not None and items.read_mask(1)[0, 0] == 1


@pytest.mark.parametrize("template", ["mask.png", "{stem}_{split}.png", "/data/{stem}.png", "{stem}_mask", "{stem"])
def test_invalid_templates_are_errors(tmp_path: Path, template: str) -> None:
    put(tmp_path, "a.jpg", "a_mask.png")
    error = open_error(tmp_path, mask=template)
    assert error.where == "data.mask" and "{stem}" in error.cure and "{id}" in error.cure


def test_a_template_that_matches_all_images_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    assert "all 2 image files match the template" in open_error(tmp_path, mask="{stem}.png").why


def test_all_unmatched_images_and_masks_are_in_one_error(tmp_path: Path) -> None:
    put(tmp_path / "train", "1_sat.jpg", "1_mask.png", "2_sat.jpg", "3_mask.png", "4_sat.jpg", "4.png", "4_mask.png")
    put(tmp_path / "val", "5_sat.jpg", "6_sat.jpg", "6_mask.png", "6_mask.tif")
    error = open_error(tmp_path)
    what = "2 of 6 images have no mask, 1 of 5 masks have no image, 2 images or masks have several partners"
    assert error.what.startswith(what)
    for name in ("train/2_sat.jpg", "val/5_sat.jpg", "train/3_mask.png", "'val/6_mask.png' or 'val/6_mask.tif'"):
        assert name in error.why
    assert "'train/4_mask.png': the mask of 'train/4.png' or of 'train/4_sat.jpg'" in error.why
    assert "--data.mask" in error.cure


def test_images_and_masks_without_a_partner_are_left_out_on_request(tmp_path: Path) -> None:
    put(tmp_path / "train", "1_sat.jpg", "1_mask.png", "2_sat.jpg", "2_mask.png", "3_sat.jpg", "4_mask.png")
    put(tmp_path / "val", "5_sat.jpg", "5_mask.png")
    assert open_error(tmp_path).cure.startswith("leave out those without a partner: --data.on_unpaired leave_out; or")
    source, _ = opened(tmp_path, on_unpaired="leave_out")
    assert pairs(source)["train"] == {f"train/{n}_sat.jpg": f"train/{n}_mask.png" for n in (1, 2)}
    assert "left out: 1 image without a mask: train/3_sat.jpg" in source.notes
    assert "left out: 1 mask without an image: train/4_mask.png" in source.notes
    put(tmp_path / "val", "6_sat.jpg", "6_mask.png", "6_mask.tif")
    error = open_error(tmp_path, on_unpaired="leave_out")
    assert "several partners" in error.what and "on_unpaired" not in error.cure, "which mask is right is not known"


def test_a_split_of_images_without_masks_is_not_left_out(tmp_path: Path) -> None:
    put(tmp_path, "images/train/a.jpg", "masks/train/a.png", "images/val/b.jpg")
    error = open_error(tmp_path, on_unpaired="leave_out")
    assert "1 of 2 images have no mask" in error.what and "on_unpaired" not in error.cure


def test_a_split_without_masks_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "images/train/a.jpg", "masks/train/a.png", "images/val/b.jpg")
    error = open_error(tmp_path)
    assert "1 of 2 images have no mask" in error.what and "images/val/b.jpg" in error.why


def test_images_without_masks(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "deep/b.jpg")
    error = open_error(tmp_path)
    assert "no masks" in error.what and "2 images" in error.why and "--data.mask" in error.cure
    source, palette = opened(tmp_path, hold_out=False, classes=())
    assert source.splits["all"].names == ("a.jpg", "deep/b.jpg") and source.splits["all"].read_mask is None
    assert source.layout == "unlabelled" and source.classes == palette.classes == ()
    assert opened(tmp_path, hold_out=False)[1].classes == CLASSES
    put(tmp_path, "a_mask.png")
    bare, _ = opened(tmp_path, hold_out=False, layout="unlabelled")
    assert bare.splits["all"].names == ("a.jpg", "deep/b.jpg") and bare.splits["all"].read_mask is None


def test_errors_for_wrong_layouts(tmp_path: Path) -> None:
    put(tmp_path, "set/train/1.jpg", "set/trainannot/1.png")
    assert "the folders 'set'" in open_error(tmp_path).why
    assert "no training split" in open_error(tmp_path / "set" / "train", layout="splits", hold_out=False).what
    put(tmp_path, "val/1_sat.jpg", "val/1_mask.png")
    assert "no training split" in open_error(tmp_path, layout="splits").what
    (tmp_path / "labels.csv").write_text("filename,label\na,b\n")
    for path, extra in ((tmp_path / "labels.csv", {}), (tmp_path, {"layout": "classes"})):
        assert "needs a mask for every image" in open_error(path, **extra).what
    put(tmp_path / "twice", "images/a.jpg", "masks/a.png", "labels/a.png")
    assert "several folders may contain" in open_error(tmp_path / "twice").what
    put(tmp_path / "thrice", "train/a.jpg", "trainannot/a.png", "train_masks/a.png", "val/b.jpg", "valannot/b.png")
    assert "several folders may contain" in open_error(tmp_path / "thrice").what
    (tmp_path / "empty").mkdir()
    assert "no images" in open_error(tmp_path / "empty").what


def test_unused_files_are_reported(tmp_path: Path) -> None:
    put(tmp_path, "train/a_sat.jpg", "train/a_mask.png", "val/b_sat.jpg", "val/b_mask.png", "extra/c.jpg", "d.jpg")
    (tmp_path / "train/readme.md").write_text("x")
    notes = opened(tmp_path)[0].notes
    assert "not used: extra/, 1 loose image" in notes and "left out: 1 .md file" in notes


def test_palettes_of_a_source(tmp_path: Path) -> None:
    put(tmp_path, "a_sat.jpg", "a_mask.png", "b_sat.jpg", "b_mask.png")
    (tmp_path / "classes.txt").write_text("road\ncar\nvoid\n")
    source, palette = opened(tmp_path, classes=())
    assert palette.names == ("road", "car", "void") and any("--data.ignore '[void]'" in note for note in source.notes)
    merged, palette = opened(tmp_path, classes=(), palette="camvid", merge={"car": "road"})
    assert merged.classes == palette.classes and len(palette.classes) == 10
    text = "\n".join(merged.notes)
    assert "ignored: void" in text and "classes.txt is not used" in text


@pytest.mark.parametrize(
    ("mask", "option"),
    [
        (np.array([[0, 255]], np.uint8), "--data.palette binary"),
        (np.array([[[0, 255, 255], [255, 255, 0], [0, 0, 255], [0, 0, 254]]], np.uint8), "--data.palette landcover"),
        (np.array([[0, 4]], np.uint8), "--data.classes"),
        (np.array([[[9, 99, 199]]], np.uint8), "--data.colors"),
    ],
)
def test_without_a_palette_the_error_suggests_one_by_the_first_mask(
    tmp_path: Path, mask: np.ndarray, option: str
) -> None:
    put(tmp_path, "a_sat.jpg", "b_sat.jpg")
    for name in "ab":
        Image.fromarray(mask).save(tmp_path / f"{name}_mask.png")
    error = open_error(tmp_path, classes=())
    assert option in error.cure and "it is not set which class each value in the masks stands for" in error.what


def test_stamps_change_with_either_file(tmp_path: Path) -> None:
    put(tmp_path, "a_sat.jpg", "a_mask.png", "b_sat.jpg", "b_mask.png")

    def stamps() -> tuple[str, ...]:
        return opened(tmp_path, hold_out=False)[0].splits["all"].stamps

    first = stamps()
    Image.new("L", (9, 9)).save(tmp_path / "a_mask.png")
    second = stamps()
    assert first[0] != second[0] and first[1] == second[1]
    Image.new("RGB", (90, 90)).save(tmp_path / "b_sat.jpg")
    assert stamps()[1] != second[1] and stamps()[0] == second[0]


def test_statistics_of_all_masks(tmp_path: Path) -> None:
    put(tmp_path, "train/a_sat.jpg", "train/b_sat.jpg", "val/c_sat.jpg", "test/d_sat.jpg")
    put(tmp_path, "train/e_sat.jpg", size=(2, 3))
    black, soft = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)
    soft[:2], soft[2] = (0, 255, 255), (0, 250, 9)
    for name, pixels in (("train/a", soft), ("train/b", black), ("val/c", soft), ("train/e", soft[:2, :3])):
        Image.fromarray(pixels).save(tmp_path / f"{name}_mask.png")
    source, palette = opened(tmp_path, classes=(), palette="landcover")
    notes: list[str] = []
    train = decode_pairs(source, "train", palette, Data(), notes.append)
    assert train.names == ("train/a_sat.jpg", "train/e_sat.jpg")  # the other pair has no labeled pixel
    assert train.sizes.tolist() == [[4, 6], [2, 3]]
    assert train.counts.tolist() == [[12, 0, 0, 6, 0, 0], [6, 0, 0, 0, 0, 0]]
    assert (train.masks[1, 2:] == IGNORE).all() and (train.masks[1, :, 3:] == IGNORE).all()
    text = "\n".join(notes)
    assert "urban 60.0%" in text and "train has no pixel of agriculture" in text
    assert "6 pixels of train (20.00%)" in text and "threshold 128" in text
    assert "1 mask of train has only ignored pixels and is left out: train/b_sat.jpg" in text
    read = source.splits["train"].read_mask
    assert read is not None
    facts = MaskFacts()
    assert (read(1, facts) == IGNORE).all() and facts.inexact == 0


def test_all_invalid_pairs_are_in_one_error(tmp_path: Path) -> None:
    names = ("good", "size", "turned", "ids", "jpeg", "broken", "photo", "fine")
    put(tmp_path, *(f"{split}/{name}_sat.jpg" for split in ("train", "val") for name in names))
    for split in ("train", "val"):
        for name in names:
            Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / split / f"{name}_mask.png")
    Image.new("L", (5, 4)).save(tmp_path / "train/size_mask.png")
    Image.new("L", (4, 6)).save(tmp_path / "train/turned_mask.png")
    Image.new("L", (6, 4), 9).save(tmp_path / "train/ids_mask.png")
    Image.new("L", (6, 4)).save(tmp_path / "train/jpeg_mask.png", "JPEG")
    (tmp_path / "val/broken_mask.png").write_bytes(b"")
    (tmp_path / "val/photo_sat.jpg").write_bytes(b"<html>")
    source, palette = opened(tmp_path)
    with pytest.raises(SightlineError) as caught:
        decode_all(source, palette, Data())
    error = caught.value
    assert error.what == "4 of 8 pairs of train cannot be used; 2 of 8 pairs of val cannot be used"
    assert error.where == str(tmp_path)
    for text in (
        "train/size_sat.jpg with train/size_mask.png: the image has 6 x 4 pixels, but its mask has 5 x 4",
        "train/turned_sat.jpg with",
        "train/ids_mask.png: 24 of the mask's 24 pixels have ids other than 0..2: 9 (24 px, first at x=0, y=0)",
        "train/jpeg_mask.png: the mask is a lossy JPEG",
        "val/broken_mask.png: it is empty",
        "val/photo_sat.jpg: it starts with '<html>'",
    ):
        assert text in error.why, text
    assert "good" not in error.why and "fine" not in error.why and "EXIF" in error.cure and "PNG" in error.cure


def test_a_palette_that_is_renumbered_in_another_split_is_an_error(tmp_path: Path) -> None:
    root = tmp_path / "data"
    put(root, *(f"{split}/{index}.jpg" for split in ("train", "val") for index in range(2)))
    for split, colors in (("train", [0, 0, 0, 128, 0, 0]), ("val", [128, 0, 0, 0, 0, 0])):
        for index in range(2):
            mask = Image.fromarray(np.full((4, 6), int(split == "train"), np.uint8), "P")
            mask.putpalette(colors)
            mask.save(root / f"{split}/{index}_mask.png")
    splits = opened(root)[0].splits
    assert splits["train"].read_mask and splits["val"].read_mask
    assert splits["train"].read_mask(0).max() == splits["train"].read_mask(1).max() == 1
    with pytest.raises(SightlineError, match="renumbered the indices") as caught:
        splits["val"].read_mask(1)
    assert f"in {root / 'train/0_mask.png'}" in caught.value.why
    (root / "classes.txt").write_text("\n".join(CLASSES))
    (finding,) = (one for one in sightline.doctor(root, out=tmp_path / "out").findings if one.kind == "mask")
    assert "renumbered the indices" in finding.groups[0].note and len(finding.groups) == 2


def test_ignored_pixels_only_are_an_error(tmp_path: Path) -> None:
    for split in ("train", "val"):
        put(tmp_path / split, "a_sat.jpg", "a_mask.png")
    source, palette = opened(tmp_path, ignore=("car",))
    with pytest.raises(SightlineError) as caught:
        decode_all(source, palette, Data())
    assert caught.value.what == "no pixel of train is labeled; no pixel of val is labeled"
    assert "all 1 masks of train" in caught.value.why and "all 1 masks of val" in caught.value.why


@pytest.mark.parametrize(("highest", "offered"), [(11, True), (12, False)])
def test_the_palette_of_camvid_is_offered_for_as_many_class_ids_as_it_has(
    highest: int, offered: bool, tmp_path: Path
) -> None:
    Image.fromarray(np.array([[0, highest]], np.uint8)).save(tmp_path / "mask.png")
    found, cure = guess_palette(str(tmp_path), "mask.png")
    assert found == f"mask.png contains class ids, up to {highest}" and ("camvid" in cure) == offered
