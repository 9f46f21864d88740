import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.config.schema import Data
from sightline.data.decode.palettes import IGNORE, LANDCOVER
from sightline.errors import SightlineError
from sightline.stats.segmentation import confusion, confusion_per_image, other_definitions, segment_numbers
from sightline.tasks.segment.score import pair_name, score, text

MODULE = importlib.import_module("sightline.tasks.segment.score")  # the package has a function of this name
COLORS = np.array(list(LANDCOVER.values()), dtype=np.uint8)  # the last, unknown, is ignored
UNKNOWN = 6


def scene(seed: int, right: float = 0.6, size: tuple[int, int] = (9, 12)) -> tuple[np.ndarray, np.ndarray]:
    """(truth, predicted) ids 0..6 of the palette; 6 is unknown and occurs in the truth only."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 7, size)
    return truth, np.where(rng.random(size) < right, truth % UNKNOWN, rng.integers(0, 6, size))


def write(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(COLORS[ids]).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> Callable[..., tuple[Path, Path, np.ndarray, np.ndarray]]:
    """Create the truth and predictions of `count` scenes, as files and as arrays [N, H, W] of indices with IGNORE."""

    def make(count: int = 5, true_name: str = "{}_mask.png", name: str = "{}_mask.png"):
        pairs = [scene(seed) for seed in range(count)]
        for seed, (truth, predicted) in enumerate(pairs):
            write(tmp_path / "truth" / true_name.format(f"{seed:04}"), truth)
            write(tmp_path / "pred" / name.format(f"{seed:04}"), predicted)
        truth, predicted = (np.stack(masks) for masks in zip(*pairs, strict=True))
        return tmp_path / "truth", tmp_path / "pred", np.where(truth == UNKNOWN, IGNORE, truth), predicted

    return make


def test_score_is_what_evaluation_computes_of_the_arrays(folders):
    truth_folder, pred_folder, truth, predicted = folders()
    result = score(truth_folder, pred_folder, "landcover")
    matrix = confusion_per_image(predicted, truth, 6)
    assert result.classes == tuple(LANDCOVER)[:6]
    assert result.names == tuple(f"{seed:04}_mask.png" for seed in range(5))
    assert {name: result.numbers[name] for name in segment_numbers(matrix)} == segment_numbers(matrix)
    assert result.numbers["mean_iou_interval"] == [None, None], "five images are too few"
    np.testing.assert_array_equal(result.confusion, confusion(predicted, truth, 6, ignored=True))
    assert result.others == other_definitions(matrix, result.confusion)
    np.testing.assert_array_equal(result.per_image.hits, np.diagonal(matrix, axis1=1, axis2=2))
    assert result.class_intervals.shape == (6, 2)
    void = (truth == IGNORE).mean()
    assert result.notes == (f"{void:.2%} of the pixels are ignored in the true masks and left out",)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_order_of_reading_does_not_matter(folders, threads):
    truth, pred, *_ = folders(23)
    result = score(truth, pred, Data(palette="landcover"), threads=threads)
    assert result.numbers == score(truth, pred, "landcover").numbers
    assert list(result.names) == sorted(result.names)


@pytest.mark.parametrize(
    "names",
    [
        ("{}_mask.png", "{}.png"),
        ("{}.png", "{}_mask.png"),
        ("{}_mask.png", "{}_sat.png"),
        ("{}_gt.png", "{}_pred.bmp"),
        ("a/{}.png", "a/{}.tif"),
        ("a.b_mask.png", "a.b.png"),
    ],
)
def test_names_that_pair(folders, names):
    truth, pred, *_ = folders(1, *names)
    assert len(score(truth, pred, "landcover").names) == 1


def test_the_name_of_a_pair():
    same = {pair_name(name) for name in ("a/0013_mask.png", "a/0013.tif", "a/0013_sat.PNG", "a/0013_pred.png")}
    assert same == {"a/0013"}
    assert pair_name("_mask.png") == "_mask" and pair_name("unmasked.png") == "unmasked"


def test_images_beside_the_masks_are_skipped_with_a_note(folders):
    truth, pred, *_ = folders(2)
    for seed in range(2):
        Image.new("RGB", (12, 9)).save(truth / f"000{seed}_sat.jpg")
        Image.new("RGB", (12, 9)).save(pred / f"000{seed}_overlay.png")
    (pred / "report.txt").write_text("")
    result = score(truth, pred, "landcover")
    assert len(result.names) == 2
    for note in (f"{truth}: 2 images", f"{pred}: 2 images", f"{pred}: 1 .txt file left out"):
        assert any(note in said for said in result.notes)


def test_the_same_masks_are_perfect_with_a_note(folders):
    truth, *_ = folders()
    result = score(truth, truth, "landcover")
    assert result.numbers["mean_iou"] == result.numbers["pixel_accuracy"] == 1
    assert result.others["mean_iou_with_ignored"].value == 1
    assert "the true and the predicted masks are the same folder" in result.notes


def test_predicting_ignored_counts_as_wrong(tmp_path):
    # urban 4 of 4 true pixels; one predicted unknown, one water
    write(tmp_path / "t" / "1.png", np.array([[0, 0, 0, 0]]))
    write(tmp_path / "p" / "1.png", np.array([[0, 0, UNKNOWN, 4]]))
    result = score(tmp_path / "t", tmp_path / "p", "landcover")
    assert result.numbers["pixel_accuracy"] == 0.5
    assert result.numbers["mean_iou"] == pytest.approx((2 / 4 + 0) / 2)  # urban, and water that is only predicted
    assert result.others["mean_iou_with_ignored"].value == pytest.approx((2 / 4 + 0 + 0) / 3)
    assert any("25.00% of the evaluated pixels are predicted as ignored" in note for note in result.notes)


def test_exchanged_folders_are_asked_about(folders):
    truth, predicted, *_ = folders()
    question = "are the folders exchanged?"
    assert any(note.endswith(question) for note in score(predicted, truth, "landcover").notes)
    assert not any(question in note for note in score(truth, predicted, "landcover").notes)


def test_colors_that_only_the_threshold_matches_are_counted(tmp_path):
    colors = np.array([[[2, 250, 251], [0, 255, 255]]], dtype=np.uint8)
    (tmp_path / "p").mkdir()
    for name in ("1.png", "2.png"):
        write(tmp_path / "t" / name, np.array([[0, 0]]))
        Image.fromarray(colors).save(tmp_path / "p" / name)
    result = score(tmp_path / "t", tmp_path / "p", "landcover")
    assert result.numbers["mean_iou"] == 1
    assert any("25.00% of the pixels have no exact color" in note for note in result.notes)


def test_class_ids_are_named_by_classes_txt_beside_the_folder(tmp_path):
    for side, values in (("truth", [0, 1, 1, 2]), ("pred", [0, 1, 2, 2])):
        (tmp_path / side).mkdir()
        Image.fromarray(np.array([values], dtype=np.uint8)).save(tmp_path / side / "1.png")
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n")
    result = score(tmp_path / "truth", tmp_path / "pred")
    assert result.classes == ("sky", "road", "car")
    assert result.numbers["mean_iou"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    settings = Data(classes=("sky", "road", "car"), merge={"car": "road"})
    assert score(tmp_path / "truth", tmp_path / "pred", settings).numbers["mean_iou"] == 1


def test_all_faults_are_in_one_error(folders):
    truth, pred, *_ = folders(6)
    (pred / "0000_mask.png").unlink()
    write(pred / "9999_mask.png", np.zeros((9, 12), int))
    write(pred / "0001_mask.png", np.zeros((4, 5), int))
    (pred / "0002_mask.png").write_bytes(b"not an image")
    Image.new("RGB", (12, 9), (9, 140, 30)).save(truth / "0003_mask.png")  # forest, by the threshold
    Image.new("RGB", (12, 9), (200, 0, 0)).save(truth / "0004_mask.png")  # red is unknown: it is ignored
    settings = Data(palette="landcover", tolerance=2)
    write(truth / "sub" / "0005_mask.png", np.zeros((9, 12), int))
    Image.fromarray(COLORS[:1].repeat(9, 0)[None]).save(pred / "0005_mask.bmp")
    with pytest.raises(SightlineError) as error:
        score(truth, pred, settings)
    said = str(error.value)
    for part in (
        "2 true masks without a prediction",
        "0000_mask.png",
        "sub/0005_mask.png",
        "1 predictions without a true mask",
        "9999_mask.png",
        "1 names shared by several files",
        "0005_mask.bmp, 0005_mask.png",
        "pairs of masks that cannot be compared",
        "0001_mask.png: the true mask has 12 x 9 pixels, the prediction 5 x 4",
        "0002_mask.png: prediction: ",
        "0003_mask.png: truth: 108 of the mask's 108 pixels have colors that are not in the palette",
        "the same name and subfolder",
    ):
        assert part in said, part
    assert error.value.status == 2


def test_both_masks_of_a_pair_are_checked(folders):
    truth, pred, *_ = folders(1)
    (truth / "0000_mask.png").write_bytes(b"")
    (pred / "0000_mask.png").unlink()
    Image.new("RGB", (12, 9)).save(pred / "0000_mask.jpg")
    with pytest.raises(SightlineError, match=r"truth: it is empty .*; prediction: the mask is a lossy JPEG"):
        score(truth, pred, "landcover")


def test_reading_stops_early_with_a_wrong_palette(folders, monkeypatch):
    truth, pred, *_ = folders(9)
    monkeypatch.setattr(MODULE, "MAX_FAULTS", 3)
    with pytest.raises(SightlineError, match="3 pairs of masks that cannot be compared; 6 further pairs were not read"):
        score(truth, pred, "binary")


MISTAKES = {
    "no folder": (lambda p: (p / "nowhere", p / "gone", "landcover"), "nowhere, .*gone"),
    "a file": (lambda p: (p / "truth" / "0000_mask.png", p / "pred", "landcover"), "there is no such folder"),
    "no masks": (lambda p: (p / "truth", p / "empty", "landcover"), "1 .txt file"),
    "no palette": (lambda p: (p / "truth", p / "pred", ""), "--data.palette landcover"),
    "unknown palette": (lambda p: (p / "truth", p / "pred", "landcovr"), "landcover"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, folders, tmp_path):
    folders(1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("")
    arguments, expected = MISTAKES[mistake]
    with pytest.raises(SightlineError, match=expected):
        score(*arguments(tmp_path))


def test_all_ignored_is_an_error(tmp_path):
    for side in "tp":
        write(tmp_path / side / "1.png", np.full((3, 3), UNKNOWN))
    with pytest.raises(SightlineError, match="every pixel of the true masks is ignored"):
        score(tmp_path / "t", tmp_path / "p", "landcover")


def test_few_masks_are_in_memory_at_a_time(folders, monkeypatch):
    """Threads read only a few pairs ahead, whatever the number of pairs."""
    truth, pred, *_ = folders(40)
    started, counted, ahead = [], [], []
    compare, counts = MODULE.compare, MODULE.measures.as_counts
    monkeypatch.setattr(MODULE, "compare", lambda *a: started.append(1) or compare(*a))

    def note(matrix):
        counted.append(1)
        ahead.append(len(started) - len(counted))
        return counts(matrix)

    monkeypatch.setattr(MODULE.measures, "as_counts", note)
    score(truth, pred, "landcover", threads=2)
    assert len(started) == 40 and max(ahead) <= 2 * MODULE.AHEAD


def test_progress_is_reported(folders, monkeypatch):
    truth, pred, *_ = folders(3)
    monkeypatch.setattr(MODULE, "PROGRESS_SECONDS", 0.0)
    said: list[str] = []
    score(truth, pred, "landcover", say=said.append)
    assert said[0].startswith("scored 1 of 3 pairs") and len(said) == 3


def test_the_table(folders):
    truth, pred, *_ = folders(12)
    result = score(truth, pred, "landcover")
    shown = text(result)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 120 and lines[0].startswith("12 pairs of masks, 6 classes")
    low, high = result.numbers["mean_iou_interval"]
    headline = next(line for line in lines if line.startswith("mean IoU"))
    assert headline.split() == ["mean", "IoU", f"{result.numbers['mean_iou']:.4f}", f"[{low:.4f},", f"{high:.4f}]"]
    for place, name in enumerate(result.classes):
        row = next(line for line in lines if line.startswith(f"{name} "))
        assert f"{result.by_class.iou[place]:.4f}" in row and f"[{result.class_intervals[place, 0]:.4f}" in row
    assert any(line.startswith("mean_iou  ") and f"{result.numbers['mean_iou']:.4f}" in line for line in lines)
    for name, other in result.others.items():
        assert any(line.startswith(f"{name} ") and f"{other.value:.4f}" in line for line in lines)
    assert lines[-1] == f"note: {result.notes[-1]}"


def test_undefined_values_are_dashes_in_the_table(tmp_path):
    for side in "tp":
        write(tmp_path / side / "1.png", np.zeros((3, 3), int))
    shown = text(score(tmp_path / "t", tmp_path / "p", "landcover"))
    water = next(line for line in shown.splitlines() if line.startswith("water"))
    assert water.split() == ["water", "-", "-", "-", "-", "0.00%"]
    assert "nan" not in shown.replace("nan_to_num", "")


def test_masks_of_some_images_are_scored_against_those_of_all(folders):
    truth, pred, *_ = folders()
    for seed in (0, 3):
        (pred / f"{seed:04}_mask.png").unlink()
    with pytest.raises(SightlineError, match="2 true masks without a prediction") as caught:
        score(truth, pred, "landcover")
    assert "--data.on_unpaired leave_out" in caught.value.cure
    found = score(truth, pred, Data(palette="landcover", on_unpaired="leave_out"))
    assert found.names == tuple(f"{seed:04}_mask.png" for seed in (1, 2, 4))
    assert found.notes[0] == "left out: 2 true masks without a prediction, 0 predictions without a true mask"


def test_predictions_among_true_masks_are_an_error(folders):
    truth, pred, *_ = folders(true_name="{}.png")
    write(truth / "0000_mask.png", np.zeros((9, 12), int))  # a prediction that was written there
    with pytest.raises(SightlineError, match="4 files without the ending _mask") as caught:
        score(truth, pred, "landcover")
    assert "a folder of their own" in caught.value.cure and caught.value.where == str(truth)
