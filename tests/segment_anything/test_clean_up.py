"""Clean-up of a segmenter's masks: most frequent classes and effects, compared with known values."""

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline
from conftest import LAND, land_pair
from sightline import SightlineError
from sightline.config.resolve import to_yaml
from sightline.config.schema import Config
from sightline.recipes import load_recipe
from sightline.segment_anything import clean_up, generation
from sightline.segment_anything.automatic import decode_mask, encode_mask
from sightline.segment_anything.clean_up import cleaned, effect, sentence, subsampled, true_masks
from sightline.stats.segmentation import Counts

pytestmark = pytest.mark.usefixtures("no_reports")
COLORS = LAND[:6]
"""Colors of the classes 0 to 5: urban, agriculture, rangeland, forest, water, barren."""


@pytest.fixture(scope="module")
def run(
    make_scenes: Callable[..., Path], toy: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> sightline.Run:
    scenes = make_scenes(tmp_path_factory.mktemp("scenes"), train=2, val=2)
    return sightline.train(toy(**{"train.epochs": 1}), scenes, out=tmp_path_factory.mktemp("run") / "run", quiet=True)


def rectangle(rows: slice, columns: slice, shape: tuple[int, int] = (4, 6)) -> dict[str, Any]:
    """A rectangle as a mask of `find_segments`."""
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    scores = {"predicted_iou": 0.9, "stability_score": 0.9, "point": [0, 0]}
    return encode_mask(torch.from_numpy(mask)) | scores


def test_each_mask_gets_its_most_frequent_class() -> None:
    """Two masks at the left: 2 x 3 pixels, four of class 2 and two of class 1, and 2 x 2 pixels, three of class 4."""
    predicted = np.array([[2, 2, 1, 0, 0, 5], [2, 2, 1, 0, 3, 5], [4, 4, 4, 1, 3, 5], [4, 0, 4, 1, 3, 5]], np.uint8)
    segments = [rectangle(slice(0, 2), slice(0, 3)), rectangle(slice(2, 4), slice(0, 2))]
    assert cleaned(predicted, segments, 6).tolist() == [
        [2, 2, 2, 0, 0, 5],
        [2, 2, 2, 0, 3, 5],
        [4, 4, 4, 1, 3, 5],
        [4, 4, 4, 1, 3, 5],
    ]
    assert predicted[3, 1] == 0, "the prediction itself does not change"


def test_overlapping_masks_use_the_prediction_and_not_the_cleaned_mask() -> None:
    predicted = np.array([[1, 1, 1, 1], [1, 2, 2, 1], [1, 2, 1, 1]], np.uint8)
    large, small = rectangle(slice(0, 3), slice(0, 4), (3, 4)), rectangle(slice(1, 3), slice(1, 3), (3, 4))
    assert cleaned(predicted, [large, small], 3).tolist() == [[1, 1, 1, 1], [1, 2, 2, 1], [1, 2, 2, 1]]


def test_of_equally_frequent_classes_the_lowest_index_is_assigned() -> None:
    predicted = np.array([[4, 2, 4, 2]], np.uint8)
    assert cleaned(predicted, [rectangle(slice(0, 1), slice(0, 4), (1, 4))], 6).tolist() == [[2, 2, 2, 2]]
    assert cleaned(predicted, [], 6).tolist() == predicted.tolist()


def counts(*images: tuple[list[int], list[int], list[int]]) -> Counts:
    """Counts of images from (hits, truth, predicted), a number per class each."""
    return Counts(*np.array(images, np.int64).transpose(1, 0, 2))


def test_the_effect_equals_known_values() -> None:
    """Two classes of 10 pixels per image. Before: 8 and 8 correct, IoU 8 / 12 each. After: all correct."""
    before, after = ([8, 8], [10, 10], [10, 10]), ([10, 10], [10, 10], [10, 10])
    found = effect(counts(*[before] * 12), counts(*[after] * 12))
    assert found["mean_iou_before"] == pytest.approx(2 / 3) and found["mean_iou_after"] == 1.0
    low, high = found["interval"]
    assert found["difference"] == pytest.approx(1 / 3) and 0 < low < 1 / 3 < high
    assert found["images"] == 12 and found["p"] < 0.05
    assert found["class_iou_before"] == pytest.approx([2 / 3, 2 / 3]) and found["class_iou_after"] == [1.0, 1.0]
    assert found["sentence"] == (
        "clean-up: mean IoU 0.6667 -> 1.0000 on 12 images: the clean-up beats the prediction by 33.3 points of mean "
        f"IoU [{100 * low:.1f}, {100 * high:.1f}], p = {found['p']:.2g}"
    )
    worse = effect(counts(*[after] * 12), counts(*[before] * 12))
    assert worse["sentence"] == (
        "clean-up: mean IoU 1.0000 -> 0.6667 on 12 images: the prediction beats the clean-up by 33.3 points of mean "
        f"IoU [{100 * low:.1f}, {100 * high:.1f}], p = {worse['p']:.2g}"
    )


def test_a_difference_that_cannot_be_shown() -> None:
    before, after = ([8, 8], [10, 10], [10, 10]), ([10, 10], [10, 10], [10, 10])
    mixed = effect(counts(*[before] * 6, *[after] * 6), counts(*[after] * 6, *[before] * 6))
    start = (
        "clean-up: mean IoU 0.8182 -> 0.8182 on 12 images: no difference in mean IoU between the prediction and the "
    )
    assert mixed["sentence"].startswith(f"{start}clean-up can be shown: 0.0 points [")
    few = effect(counts(*[before] * 9), counts(*[after] * 9))
    assert few["interval"] == [None, None] and "on 9 images: too few for an interval" in few["sentence"]
    one = effect(counts(before), counts(after))
    assert one["sentence"] == "clean-up: mean IoU 0.6667 -> 1.0000 on 1 image: too few for an interval"
    assert one["interval"] == [None, None] and json.dumps(one, allow_nan=False)
    nan = float("nan")
    nothing = {"mean_iou_before": nan, "mean_iou_after": nan, "interval": [nan, nan], "p": None, "images": 2}
    assert "every pixel of the truth is ignored" in sentence(nothing)


@pytest.fixture
def known_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images of 4 x 8 pixels: the left half is forest, the right half water. The run predicts urban for a pixel in
    each half. Segment Anything finds the left half."""
    truth = np.repeat([[3, 3, 3, 3, 4, 4, 4, 4]], 4, 0)
    predicted = truth.copy().astype(np.uint8)
    predicted[1, 1] = predicted[2, 6] = 0
    for number in range(6):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "truth").mkdir(exist_ok=True)
        Image.new("RGB", (8, 4), (number, 100, 50)).save(tmp_path / "in" / f"{number}_sat.png")
        Image.fromarray(COLORS[truth].astype(np.uint8)).save(tmp_path / "truth" / f"{number}_mask.png")
    monkeypatch.setattr(clean_up, "predict_mask", lambda *_: predicted.copy())
    half = rectangle(slice(0, 4), slice(0, 4), (4, 8))
    monkeypatch.setattr(generation, "find_segments", lambda *_: [half])
    return tmp_path


def test_clean_up_from_images_to_a_sentence(
    known_images: Path, run: sightline.Run, tiny_sam: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """IoU before: forest and water 15/16, urban (not in the truth) 0, mean 0.625. After: forest 1, mean 0.6458."""
    options = {"out": known_images / "out", "model": str(tiny_sam), "run": run.path}
    out = sightline.masks(known_images / "in", truth=known_images / "truth", **options)
    expected = "clean-up: mean IoU 0.6250 -> 0.6458 on 6 images: too few for an interval"
    assert capsys.readouterr().out.splitlines()[-1] == expected
    with Image.open(out / "0_mask.png") as mask:
        codes = np.asarray(mask)
    right = COLORS[4] * np.ones((4, 4, 1))
    right[2, 2] = COLORS[0]
    np.testing.assert_array_equal(codes[:, :4], COLORS[3] * np.ones((4, 4, 1)))
    np.testing.assert_array_equal(codes[:, 4:], right)
    facts = json.loads((out / "segments.json").read_text())["clean_up"]
    assert facts["sentence"] == expected and facts["mean_iou_before"] == pytest.approx(0.625)
    assert facts["class_iou_after"][3] == 1.0 and facts["class_iou_after"][1] is None
    page = (out / "segments.html").read_text()
    assert f"{html.escape(expected[1:])}." in page and page.count("<figure") == 36 and "mean IoU 0.646" in page
    assert ">forest<" in page and "0.9375" in page


def test_a_clean_up_can_be_added_to_finished_masks_and_repeated(
    known_images: Path, run: sightline.Run, tiny_sam: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"out": known_images / "out", "model": str(tiny_sam)}
    out = sightline.masks(known_images / "in", **options, quiet=True)
    assert not list(out.glob("*_mask.png"))
    monkeypatch.setattr(generation, "load", None)
    for _ in range(2):
        sightline.masks(known_images / "in", **options, run=run.path, quiet=True)
        assert len(list(out.glob("*_mask.png"))) == 6
    assert "was not measured" in (out / "segments.html").read_text()
    sightline.masks(known_images / "in", **options, quiet=True)
    assert len(list(out.glob("*_mask.png"))) == 6
    sightline.masks(known_images / "in", **options, run=run.path)
    assert json.loads((out / "segments.json").read_text())["clean_up"]["run"] == str(run.path)


def test_masks_refined_for_another_run_are_replaced_only_with_overwrite(
    known_images: Path, run: sightline.Run, tiny_sam: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"out": known_images / "out", "model": str(tiny_sam), "quiet": True}
    out = sightline.masks(known_images / "in", **options, run=run.path)
    monkeypatch.setattr(clean_up.run_folder, "weight_digests", lambda folder: {"best": "others"})
    (out / "0_mask.png").write_bytes(b"as it was")
    with pytest.raises(SightlineError, match="cleaned up for another run") as caught:
        sightline.masks(known_images / "in", **options, run=run.path)
    assert str(run.path) in caught.value.why and "--overwrite" in caught.value.cure
    assert (out / "0_mask.png").read_bytes() == b"as it was"
    sightline.masks(known_images / "in", **options, run=run.path, overwrite=True)
    assert json.loads((out / "segments.json").read_text())["clean_up"]["weights"] == {"best": "others"}


def test_overwriting_without_a_run_removes_refined_masks_and_their_measurement(
    known_images: Path, run: sightline.Run, tiny_sam: Path
) -> None:
    options: dict[str, Any] = {"out": known_images / "out", "model": str(tiny_sam), "quiet": True}
    out = sightline.masks(known_images / "in", **options, run=run.path, truth=known_images / "truth")
    assert len(list(out.glob("*_mask.png"))) == 6
    sightline.masks(known_images / "in", **options, quality=0.5, overwrite=True)
    assert not list(out.glob("*_mask.png"))
    assert json.loads((out / "segments.json").read_text())["clean_up"] is None
    (out / "0_mask.png").write_bytes(b"mine")
    sightline.masks(known_images / "in", **options, overwrite=True)
    assert (out / "0_mask.png").read_bytes() == b"mine"


def test_input_masks_are_not_overwritten(known_images: Path, run: sightline.Run, tiny_sam: Path) -> None:
    """The output folder may be that of the true masks."""
    options = {"model": str(tiny_sam), "run": run.path, "quiet": True}
    before = {path.name: path.read_bytes() for path in (known_images / "truth").iterdir()}
    for overwrite, message in (
        (False, "the output exists|would overwrite an input"),
        (True, "would overwrite an input"),
    ):
        with pytest.raises(SightlineError, match=message):
            sightline.masks(
                known_images / "in",
                out=known_images / "truth",
                truth=known_images / "truth",
                overwrite=overwrite,
                **options,
            )
    assert {p.name: p.read_bytes() for p in (known_images / "truth").iterdir() if p.name in before} == before


def test_unusable_true_masks_are_listed_and_the_others_evaluated(
    known_images: Path, run: sightline.Run, tiny_sam: Path
) -> None:
    Image.new("RGB", (9, 4)).save(known_images / "truth" / "2_mask.png")
    Image.new("RGB", (8, 4), (9, 99, 199)).save(known_images / "truth" / "3_mask.png")
    (known_images / "truth" / "4_mask.png").write_bytes(b"")
    out = sightline.masks(
        known_images / "in",
        out=known_images / "out",
        model=str(tiny_sam),
        run=run.path,
        truth=known_images / "truth",
        quiet=True,
    )
    rows = (out / "errors.csv").read_text().splitlines()[1:]
    assert [row[0] for row in rows] == ["2", "4"] and "its true mask has 9 x 4 pixels" in rows[0]
    assert "its true mask" in rows[1] and "0 bytes" in rows[1]
    record = json.loads((out / "segments.json").read_text())
    assert record["clean_up"]["images"] == 4 and len(record["images"]) == 4, (
        "the color of mask 3 is thresholded to one of the palette"
    )


def test_a_wrong_palette_is_an_error_before_any_work(known_images: Path, run: sightline.Run, tiny_sam: Path) -> None:
    for number in range(6):
        Image.new("L", (8, 4), 7).save(known_images / "truth" / f"{number}_mask.png")
    with pytest.raises(SightlineError, match="this mask cannot be used"):
        sightline.masks(
            known_images / "in",
            out=known_images / "out",
            model=str(tiny_sam),
            run=run.path,
            truth=known_images / "truth",
        )
    assert not (known_images / "out").exists()


def test_every_image_without_a_true_mask_is_named(tmp_path: Path) -> None:
    for name in ("a/1_mask.png", "2_mask.png", "twice_mask.png", "twice_mask.tif"):
        (tmp_path / "truth" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "truth" / name).touch()
    with pytest.raises(SightlineError, match="do not match") as caught:
        true_masks(tmp_path / "truth", ["a/1_sat.jpg", "a/2.jpg", "b/1.jpg"])
    assert "2 images without a true mask:\n    a/2.jpg\n    b/1.jpg" in caught.value.why
    assert "1 name shared by several masks" in caught.value.why and "twice_mask.tif" in caught.value.why
    assert "give only the images" in caught.value.cure and "--" not in caught.value.cure, "of `score`, not of `masks`"
    (tmp_path / "truth" / "twice_mask.tif").unlink()
    found = true_masks(tmp_path / "truth", ["a/1_sat.jpg", "2.jpg"])
    assert found["a/1_sat.jpg"].endswith("truth/a/1_mask.png") and found["2.jpg"].endswith("truth/2_mask.png")
    with pytest.raises(SightlineError, match="no such folder"):
        true_masks(tmp_path / "nowhere", [])


def test_a_classifiers_run_is_an_error(known_images: Path, tiny_sam: Path) -> None:
    (known_images / "run").mkdir()
    (known_images / "run" / "recipe.yaml").write_text(to_yaml(load_recipe("digits")))
    with pytest.raises(SightlineError, match="does not predict masks") as caught:
        sightline.masks(known_images / "in", out=known_images / "out", model=str(tiny_sam), run=known_images / "run")
    assert "classify" in caught.value.why


def test_with_a_real_network_the_masks_are_the_majority_of_the_predicted_classes(
    run: sightline.Run, tiny_sam: Path, tmp_path: Path
) -> None:
    """The cleaned mask follows from the mask of `predict` and the run lengths."""
    (tmp_path / "in").mkdir()
    land_pair(950)[0].save(tmp_path / "in" / "950_sat.png")
    sightline.predict(run.path, tmp_path / "in", out=tmp_path / "predicted", quiet=True)
    settings = {"points_per_side": 4, "quality": 0, "stability": 0, "quiet": True}
    out = sightline.masks(tmp_path / "in", out=tmp_path / "out", model=str(tiny_sam), run=run.path, **settings)
    with Image.open(tmp_path / "predicted" / "950_mask.png") as one, Image.open(out / "950_mask.png") as other:
        predicted, found = (np.asarray(mask).astype(int) @ [1, 256, 65536] for mask in (one, other))
    expected, order = predicted.copy(), [int(c @ [1, 256, 65536]) for c in COLORS]
    for one in json.loads((out / "950_segments.json").read_text())["annotations"]:
        inside = predicted[decode_mask(one)].tolist()
        expected[decode_mask(one)] = max(order, key=inside.count)
    np.testing.assert_array_equal(found, expected)


def test_small_masks_keep_their_values() -> None:
    mask = np.arange(12, dtype=np.uint16).reshape(3, 4)
    np.testing.assert_array_equal(subsampled(mask), mask)
    assert subsampled(np.zeros((1000, 1200), np.uint8)).shape == (333, 400)
