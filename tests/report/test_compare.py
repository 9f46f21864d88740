"""The numbers of a comparison: paired, matched by name, rejected if the images differ."""

import json
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

import sightline
from compare_toys import CLASSES, LAND, classifier, pretraining, segmenter, write_run
from sightline.data.decode.palettes import Palette
from sightline.errors import SightlineError
from sightline.report.compare.files import write_comparison
from sightline.report.compare.kinds import RunPair
from sightline.report.compare.numbers import Comparison, compare
from sightline.report.compare.page import differences, summary
from sightline.report.html import element
from sightline.runs.atomic import append_line
from sightline.stats.nested import paired_difference
from sightline.stats.paired import iou_difference
from sightline.stats.segmentation import confusion_per_image, mean_iou

TRUTH = np.arange(60) % 3
WRONG = (TRUTH + 1) % 3


def said(*wrong: int) -> np.ndarray:
    """Predictions that are correct except for these images."""
    return np.where(np.isin(np.arange(60), wrong), WRONG, TRUTH)


@pytest.fixture
def two(tmp_path: Path) -> Comparison:
    """a is wrong on images 0 to 13, b on 12 to 15."""
    a = classifier(tmp_path / "a", said(*range(14)).tolist(), TRUTH.tolist())
    b = classifier(tmp_path / "b", said(12, 13, 14, 15).tolist(), TRUTH.tolist(), settings={"optim.lr": 0.25})
    return compare([a, b])


def test_the_difference_is_paired(two: Comparison) -> None:
    (pair,) = two.pairs
    first, second = said(*range(14)) == TRUTH, said(12, 13, 14, 15) == TRUTH
    expected = paired_difference(first, second)
    assert (pair.difference, pair.interval) == (expected.value, expected.interval())
    assert pair.difference == pytest.approx(10 / 60)
    assert pair.p == pair.corrected == expected.p == pytest.approx(stats.binomtest(2, 14).pvalue, abs=0.01)
    assert pair.numbers.agreement == {
        "both right": 44,
        "only first right": 2,
        "only second right": 12,
        "both wrong": 2,
        "same answer": 46,
    }
    low, high = (f"{100 * edge:.1f}" for edge in pair.interval)
    assert pair.sentence == f"b beats a by 16.7 points of accuracy [{low}, {high}] on the same 60 images"
    assert pair.significant and two.reference.name == "a"


def test_with_many_discordant_images_p_is_near_the_chi_square(tmp_path: Path) -> None:
    truth = np.zeros(2000, int)
    a, b = np.zeros(2000, int), np.zeros(2000, int)
    a[:220], b[180:380] = 1, 1  # 180 are correct for b only, 160 for a only
    found = compare([classifier(tmp_path / name, p.tolist(), truth.tolist()) for name, p in (("a", a), ("b", b))])
    assert found.pairs[0].p == pytest.approx(stats.chi2.sf((180 - 160) ** 2 / (180 + 160), 1), abs=0.005)
    assert found.pairs[0].sentence.startswith("no difference in accuracy between a and b can be shown: 1.0 points [")


def test_no_run_beats_another_on_four_images_alone(tmp_path: Path) -> None:
    a = classifier(tmp_path / "a", said(0, 1, 2, 3).tolist(), TRUTH.tolist())
    b = classifier(tmp_path / "b", said().tolist(), TRUTH.tolist())
    (pair,) = compare([a, b]).pairs
    assert pair.interval[0] < 0 and pair.p > 0.05 and pair.sentence.startswith("no difference")
    assert not pair.significant


def test_equal_predictions_have_no_difference(tmp_path: Path) -> None:
    runs = [classifier(tmp_path / name, said(5, 6).tolist(), TRUTH.tolist()) for name in "ab"]
    (pair,) = compare(runs).pairs
    assert pair.difference == 0 and pair.p == 1 and "no difference" in pair.sentence
    assert pair.interval == pytest.approx((-0.0236, 0.0236), abs=1e-4)


def test_several_runs_are_each_compared_with_the_first_and_corrected(tmp_path: Path) -> None:
    wrong = {"a": range(14), "b": (12, 13, 14, 15, 16, 17, 18), "c": range(9)}
    found = compare([classifier(tmp_path / name, said(*rows).tolist(), TRUTH.tolist()) for name, rows in wrong.items()])
    assert [(pair.first, pair.second) for pair in found.pairs] == [("a", "b"), ("a", "c")]
    b, c = found.pairs
    assert 0.03 < c.p < 0.0625 < b.p  # McNemar's exact p of five images is 0.0625
    assert c.corrected == pytest.approx(2 * c.p) and b.corrected == pytest.approx(min(1, 2 * b.p))
    assert c.level == b.level == 0.975 and c.interval[0] < 0, "the intervals are widened too"
    assert c.sentence.startswith("no difference")
    assert "corrected for 2 comparisons, on the same 60 images" in c.sentence


def test_a_best_epoch_that_only_one_run_has_is_named(tmp_path: Path) -> None:
    runs = [classifier(tmp_path / name, said(5).tolist(), TRUTH.tolist()) for name in "ab"]

    def notes() -> list[str]:
        return [note for note in compare(runs).notes if "optimistic" in note]

    def said_on_page() -> bool:
        return "best epochs were chosen" in str(element("div", summary(compare(runs), {}, ["", ""])))

    assert not notes()
    append_line(runs[1] / "metrics.jsonl", '{"event": "done", "selection": "epoch 2 is the best of 9"}')
    assert len(notes()) == 1 and notes()[0].startswith("The best epoch of b was chosen on these images")
    assert not said_on_page(), "which would contradict the note"
    append_line(runs[0] / "metrics.jsonl", '{"event": "done", "selection": "epoch 3 is the best of 9"}')
    assert not notes() and said_on_page(), "an even comparison"


def test_classes_have_paired_differences(two: Comparison) -> None:
    recall = two.pairs[0].numbers.classes["recall"]
    first = [np.mean(said(*range(14))[k == TRUTH] == k) for k in range(3)]
    np.testing.assert_allclose(recall.first, first)
    np.testing.assert_allclose(recall.difference, recall.second - recall.first)
    assert (recall.low < recall.difference).all() and (recall.difference < recall.high).all()
    assert set(two.pairs[0].numbers.classes) == {"F1", "recall"}


def test_only_settings_that_differ_are_listed(tmp_path: Path) -> None:
    a = classifier(tmp_path / "a", TRUTH.tolist(), TRUTH.tolist(), settings={"model.args": {"width": 8, "depth": 2}})
    b = classifier(tmp_path / "b", TRUTH.tolist(), TRUTH.tolist(), settings={"model.args": {"width": 9, "depth": 2}})
    text = (b / "recipe.yaml").read_text()
    (b / "recipe.yaml").write_text(text.replace("  seed: 0\n", ""))  # as written by an older version
    assert compare([a, b]).recipes == (
        ("model.args", ("width 8, depth 2", "width 9, depth 2")),
        ("train.seed", ("0", "(not set)")),
    )
    assert compare([a, classifier(tmp_path / "c", TRUTH.tolist(), TRUTH.tolist(),
                                  settings={"model.args": {"width": 8, "depth": 2}})]).recipes == ()  # fmt: skip


def test_images_and_classes_in_another_order_are_matched_by_name(tmp_path: Path, two: Comparison) -> None:
    turned = np.random.default_rng(0).permutation(60)
    classes = tuple(reversed(CLASSES))
    names = [f"val/{i:03d}.png" for i in turned]
    predicted = 2 - said(12, 13, 14, 15)[turned]
    b = classifier(tmp_path / "turned", predicted.tolist(), (2 - TRUTH[turned]).tolist(), names, classes, digest="bb")
    found = compare([tmp_path / "a", b])
    (pair,) = found.pairs
    assert (pair.difference, pair.interval, pair.p) == (*paired_of(two), two.pairs[0].p)
    assert pair.numbers.agreement == two.pairs[0].numbers.agreement
    np.testing.assert_allclose(pair.numbers.classes["F1"].second, two.pairs[0].numbers.classes["F1"].second)
    notes = " ".join(pair.notes)
    assert "images in another order" in notes and "classes in another order" in notes
    assert "whether their pixels are equal is unknown (their order differs)" in notes


def paired_of(found: Comparison) -> tuple[float, tuple[float, float]]:
    return found.pairs[0].difference, found.pairs[0].interval


TWO = TRUTH[:40].tolist()
REFUSALS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "other images": (
        lambda p: classifier(p, TRUTH.tolist(), TRUTH.tolist(), [f"other/{i}.png" for i in range(60)]),
        ["have none in common (val/000.png and other/0.png)"],
    ),
    "a subset": (
        lambda p: classifier(p, TWO, TWO),
        [
            "they have 40 validation images in common, of 60 and 40",
            "b lacks 20 images of a (val/040.png, val/041.png, val/042.png and",
        ],
    ),
    "other labels": (
        lambda p: classifier(p, TRUTH.tolist(), [1, *TRUTH[1:].tolist()]),
        ["1 validation image has different labels: val/000.png is cat in a and dog in b"],
    ),
    "other pixels": (
        lambda p: classifier(p, TRUTH.tolist(), TRUTH.tolist(), digest="bb"),
        ["the same names but different pixels"],
    ),
    "more classes": (
        lambda p: classifier(p, TRUTH.tolist(), TRUTH.tolist(), classes=(*CLASSES, "elk")),
        ["they have different classes (3 and 4): only b has elk"],
    ),
    "not finished": (
        lambda p: write_run(p, numbers={"accuracy": 0.6}, finished=False),
        ["b is not finished (it is at epoch 3)"],
    ),
    "no predictions": (
        lambda p: write_run(p, numbers={"accuracy": 0.6}),
        ["b has no predictions to compare (predictions/val.csv: missing)"],
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_runs_that_cannot_be_paired_are_listed_with_the_reason(tmp_path: Path, kind: str) -> None:
    make, words = REFUSALS[kind]
    a = classifier(tmp_path / "a", said(*range(14)).tolist(), TRUTH.tolist())
    make(tmp_path / "b")
    c = classifier(tmp_path / "c", said().tolist(), TRUTH.tolist())
    found = compare([a, tmp_path / "b", c])
    assert [pair.second for pair in found.pairs] == ["c"]  # the others are compared
    (unpaired,) = found.unpaired
    assert unpaired.name == "b" and all(word in unpaired.why for word in words), unpaired.why
    assert unpaired.cure and len(found.entries) == 3


def test_duplicate_names_cannot_be_matched(tmp_path: Path) -> None:
    names = [f"val/{i // 2}.png" for i in range(60)]
    a = classifier(tmp_path / "a", TRUTH.tolist(), TRUTH.tolist(), names)
    same = classifier(tmp_path / "b", TRUTH.tolist(), TRUTH.tolist(), names)
    other = classifier(tmp_path / "c", TRUTH[::-1].tolist(), TRUTH[::-1].tolist(), names[::-1])
    found = compare([a, same, other])
    assert [pair.second for pair in found.pairs] == ["b"]  # in the same order they match without names
    assert "several images have the same name" in found.unpaired[0].why


def test_different_digests_at_different_sizes_are_not_an_error(tmp_path: Path) -> None:
    a = classifier(tmp_path / "a", TRUTH.tolist(), TRUTH.tolist())
    b = classifier(tmp_path / "b", TRUTH.tolist(), TRUTH.tolist(), digest="bb", settings={"data.size": 64})
    (pair,) = compare([a, b]).pairs
    assert "is unknown (they were decoded at different sizes)" in pair.notes[0]


def test_a_recipe_without_eval_crop_was_decoded_without_it(tmp_path: Path) -> None:
    """Recipes of earlier versions lack the setting; their runs can be compared with new ones."""
    runs = [classifier(tmp_path / name, TRUTH.tolist(), TRUTH.tolist()) for name in "ab"]
    recipe = runs[0] / "recipe.yaml"
    text = recipe.read_text()
    assert "  eval_crop: 1.0\n" in text
    recipe.write_text(text.replace("  eval_crop: 1.0\n", ""))
    (pair,) = compare(runs).pairs
    assert not any("decoded at different sizes" in note for note in pair.notes)


def test_different_training_images_and_machines_have_notes(tmp_path: Path) -> None:
    a = classifier(tmp_path / "a", TRUTH.tolist(), TRUTH.tolist())
    b = classifier(tmp_path / "b", TRUTH.tolist(), TRUTH.tolist(), facts={"device": "another"})
    provenance = json.loads((b / "provenance.json").read_text())
    provenance["data"]["digest"]["train"] = "uu"
    (b / "provenance.json").write_text(json.dumps(provenance))
    notes = compare([a, b]).notes
    assert "a on a processor, 1 thread, fp32; b on another, 1 thread, fp32" in notes[0]
    assert notes[1] == "b and a were trained on different images or labels."
    assert compare([a, classifier(tmp_path / "c", TRUTH.tolist(), TRUTH.tolist())]).notes == ()


def test_an_unfinished_run_has_its_best_evaluation(tmp_path: Path) -> None:
    a = classifier(tmp_path / "a", said(1).tolist(), TRUTH.tolist())
    b = write_run(tmp_path / "b", numbers={"accuracy": 0.6}, finished=False)
    one, other = compare([a, b]).entries
    assert (one.so_far, other.so_far, other.quality, other.interval) == (False, True, pytest.approx(0.6), None)
    assert (one.seconds, one.flops, one.parameters, one.epochs) == (190, 3e9, 1000, 3) and np.isnan(other.flops)


def masks(wrong: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(predicted, truth) uint8 [10, 12, 16]; a share `wrong` of the predicted pixels is random."""
    truth = np.random.default_rng(0).integers(0, 3, (10, 3, 4)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 3, truth.shape).astype(np.uint8)
    return np.where(rng.random(truth.shape) < wrong, drawn, truth), truth


def test_segmenters_are_compared_image_by_image(tmp_path: Path) -> None:
    (first, truth), (second, _) = masks(0.5, 1), masks(0.3, 2)
    found = compare([segmenter(tmp_path / "a", first, truth), segmenter(tmp_path / "b", second, truth)])
    (pair,) = found.pairs
    counts = [confusion_per_image(one, truth, 3) for one in (first, second)]
    expected = iou_difference(*counts)
    assert (pair.difference, pair.interval) == (pytest.approx(expected.value), pytest.approx(expected.interval()))
    assert found.entries[1].quality == pytest.approx(float(mean_iou(counts[1].sum(0))))
    assert 0 < pair.p < 0.01 and pair.sentence.startswith("b beats a by") and "of mean IoU" in pair.sentence
    assert sum(pair.numbers.agreement.values()) == 10 and pair.numbers.agreement["second better"] > 7
    assert list(pair.numbers.classes) == ["IoU"]


def test_mean_ious_over_different_classes_are_noted_and_not_compared(tmp_path: Path) -> None:
    truth = np.zeros((20, 12, 16), np.uint8)
    truth[:, :6] = 1
    first, second = truth.copy(), truth.copy()
    first[:, 0, :3], second[:, 0, :3] = 0, 0
    first[:2, 11, :2] = 2  # no true mask has this class
    found = compare([segmenter(tmp_path / "a", first, truth), segmenter(tmp_path / "b", second, truth)])
    assert found.pairs[0].sentence.startswith("no difference in mean IoU between a and b can be shown")
    assert "without an interval" in found.pairs[0].sentence and found.pairs[0].difference > 0.3
    (note,) = [note for note in found.notes if "No true mask" in note]
    assert f"No true mask has {LAND.classes[2]}, which one of a and b predicts" in note


def test_masks_of_classes_and_images_in_another_order_are_matched(tmp_path: Path) -> None:
    (first, truth), (second, _) = masks(0.5, 1), masks(0.3, 2)
    a, b = segmenter(tmp_path / "a", first, truth), segmenter(tmp_path / "b", second, truth)
    order = (2, 0, 1)  # wood, lake and field have become lake, field and wood
    names = tuple(LAND.classes[k] for k in order)
    other = Palette(names, None, names, np.arange(3, dtype=np.uint8), (), ids=(0, 1, 2), shown=LAND.shown)
    place = np.argsort(order).astype(np.uint8)
    turned = np.arange(10)[::-1]
    c = segmenter(tmp_path / "c", place[second][turned], place[truth][turned], other, digest="cc",
                  names=[f"val/{i:04d}_sat.jpg" for i in turned])  # fmt: skip
    expected, found = compare([a, b]).pairs[0], compare([a, c]).pairs[0]
    assert found.difference == expected.difference and found.interval == pytest.approx(expected.interval)
    np.testing.assert_array_equal(found.numbers.classes["IoU"].second, expected.numbers.classes["IoU"].second)


def test_masks_with_different_truth_are_not_paired(tmp_path: Path) -> None:
    first, truth = masks(0.5, 1)
    changed = truth.copy()
    changed[3] = 0
    a, b = segmenter(tmp_path / "a", first, truth), segmenter(tmp_path / "b", first, changed)
    (unpaired,) = compare([a, b]).unpaired
    assert unpaired.why == "1 validation image has different labels: val/0003_sat.jpg"
    (b / "predictions" / "val-confusion.npz").unlink()
    assert "predictions/val-confusion.npz: missing" in compare([a, b]).unpaired[0].why


def test_data_size_has_no_effect_on_the_comparison_of_masks(tmp_path: Path) -> None:
    first, truth = masks(0.5, 1)
    a = segmenter(tmp_path / "a", first, truth)
    b = segmenter(tmp_path / "b", first, truth, digest="bb", settings={"data.size": 64})
    assert "different pixels" in compare([a, b]).unpaired[0].why


def test_one_image_has_no_interval_and_no_winner(tmp_path: Path) -> None:
    (first, truth), (second, _) = masks(0.9, 1), masks(0.0, 2)
    runs = [segmenter(tmp_path / name, one[:1], truth[:1]) for name, one in (("a", first), ("b", second))]
    (pair,) = compare(runs).pairs
    assert "without an interval on the same 1 image" in pair.sentence and not pair.significant


def test_pretraining_runs_have_no_pairs_and_no_winner(tmp_path: Path) -> None:
    found = compare([pretraining(tmp_path / "a", 0.4), pretraining(tmp_path / "b", 0.8)])
    assert found.pairs == () and found.unpaired == ()
    assert "no per-image predictions" in found.notes[0] and "no run is called better" in found.notes[0]
    assert [one.quality for one in found.entries] == [0.4, 0.8] and found.entries[0].interval == pytest.approx(
        (0.35, 0.45)
    )


def test_pretraining_runs_evaluated_on_other_images_have_a_note(tmp_path: Path) -> None:
    a, b = (pretraining(tmp_path / name, 0.4) for name in "ab")
    assert len(compare([a, b]).notes) == 1
    provenance = json.loads((b / "provenance.json").read_text())
    provenance["data"]["evaluated"] = "ee"
    (b / "provenance.json").write_text(json.dumps(provenance))
    assert compare([a, b]).notes[1] == "The k-NN accuracies of a and b are of different images or image sizes."


def test_an_ensemble_has_a_note(tmp_path: Path) -> None:
    a, b = (classifier(tmp_path / name, TRUTH.tolist(), TRUTH.tolist()) for name in "ab")
    text = (b / "metrics.jsonl").read_text().replace('"train_flops"', '"ensemble": [1, 3], "train_flops"')
    (b / "metrics.jsonl").write_text(text)
    assert compare([a, b]).notes == ("b is the mean of 2 epochs: each prediction costs that many forward passes.",)


FAULTS: dict[str, tuple[Callable[[Path], list[Path]], list[str]]] = {
    "one run": (lambda p: [p / "a"], ["a comparison needs at least two runs"]),
    "twice": (lambda p: [p / "a", p / "b" / ".." / "a"], ["a run is listed twice", "the same folder as"]),
    "several tasks": (
        lambda p: [p / "a", p / "s", p / "b"],
        ["a classifies images", "s segments images", "sightline report"],
    ),
    "a grid": (lambda p: [p / "a", p / "grid"], ["transfer grid", "the report of the grid", "grid/A-0"]),
    "a comparison": (lambda p: [p / "a", p / "old"], ["this folder is a comparison"]),
    "no run": (lambda p: [p / "a", p / "nowhere"], ["this is not a run", "no such folder"]),
    "several faults": (
        lambda p: [p / "a", p / "a", p / "nowhere", p / "grid"],
        ["listed twice", "not a run", "transfer grid"],
    ),
    "too many": (lambda p: [p / f"r{i}" for i in range(21)], ["too many runs"]),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_runs_that_cannot_be_compared_are_one_error(tmp_path: Path, kind: str) -> None:
    for name in ("a", "b", "grid/A-0"):
        classifier(tmp_path / name, TRUTH.tolist(), TRUTH.tolist())
    segmenter(tmp_path / "s", *masks(0.5, 1))
    (tmp_path / "grid" / "grid.yaml").write_text("name: x\n")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "compare.json").write_text("{}")
    if kind == "too many":
        for number in range(21):
            write_run(tmp_path / f"r{number}")
    make, words = FAULTS[kind]
    with pytest.raises(SightlineError) as caught:
        compare(make(tmp_path))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert caught.value.cure and caught.value.status == 2


def test_equal_folder_names_are_distinguished_by_their_parents(tmp_path: Path) -> None:
    runs = [classifier(tmp_path / name, TRUTH.tolist(), TRUTH.tolist()) for name in ("x/one/run", "x/two/run", "plain")]
    assert [entry.name for entry in compare(runs).entries] == ["one/run", "two/run", "plain"]
    deeper = [classifier(tmp_path / name, TRUTH.tolist(), TRUTH.tolist()) for name in ("p/one/run", "q/one/run")]
    assert [entry.name for entry in compare(deeper).entries] == ["p/one/run", "q/one/run"]


# ------------------------------------------------------------------------------------------------------- test split


def evaluated(run: Path, look: int = 1, **more: object) -> Path:
    """Let the predictions of a run be those of the test split, as `sightline evaluate --split test` writes them."""
    for path in (run / "predictions").glob("val*"):
        path.rename(path.with_name(path.name.replace("val", "test")))
    event = {"event": "test", "split": "test", "path": "photos", "look": look, "look_runs": 2, "accuracy": 0.5}
    append_line(run / "metrics.jsonl", json.dumps(event | {"digest": "ff", "knn_accuracy": 0.25} | more))
    return run


def test_runs_are_compared_on_the_test_split(tmp_path: Path) -> None:
    a = evaluated(classifier(tmp_path / "a", said(*range(14)).tolist(), TRUTH.tolist()), look=3)
    b = evaluated(classifier(tmp_path / "b", said(12).tolist(), TRUTH.tolist(), digest="other"), look=7)
    page, lines = write_comparison([a, b], tmp_path / "out", split="test")
    assert "b beats a by 21.7 points of accuracy" in lines[0] and lines[0].endswith("60 images of the split test.")
    note = "The results are on the split test, on which no run's epoch was chosen. The last of these evaluations is "
    assert lines[1] == f"{note}look 7 at this test set, from 2 runs."
    values = json.loads((tmp_path / "out/compare.json").read_text())
    assert values["split"] == "test" and values["runs"][1]["accuracy"] == 59 / 60 and lines[1] in values["notes"]
    assert "on these same images" not in page.read_text() and lines[1].replace("'", "&#x27;") in page.read_text()
    groups = {"by": "data.group", "groups": [[f"val/{i:03d}.png" for i in range(n, n + 6)] for n in range(0, 60, 6)]}
    (a / "predictions/test-groups.json").write_text(json.dumps(groups))
    assert "60 images in 10 groups of the split test" in compare([a, b], "test").pairs[0].sentence
    evaluated(b, digest="changed")
    assert "different pixels" in compare([a, b], "test").unpaired[0].why


def test_groups_of_one_run_count_whichever_run_is_the_reference(tmp_path: Path) -> None:
    a = classifier(tmp_path / "a", said(*range(14)).tolist(), TRUTH.tolist())
    b = classifier(tmp_path / "b", said(12).tolist(), TRUTH.tolist())
    groups = {"by": "data.group", "groups": [[f"val/{i:03d}.png" for i in range(n, n + 6)] for n in range(0, 60, 6)]}
    (a / "predictions/val-groups.json").write_text(json.dumps(groups))
    first, second = compare([a, b]).pairs[0], compare([b, a]).pairs[0]
    assert "60 images in 10 groups" in first.sentence and "60 images in 10 groups" in second.sentence
    assert first.interval == pytest.approx([-edge for edge in second.interval[::-1]])
    assert "a and b have different groups of images: those of both are joined." in first.notes
    (b / "predictions/val-groups.json").write_text(json.dumps(groups))
    assert compare([a, b]).pairs[0].notes == () and compare([a, b]).pairs[0].interval == first.interval


def test_runs_that_were_not_evaluated_on_the_test_split_are_an_error_with_the_commands(tmp_path: Path) -> None:
    runs = [classifier(tmp_path / name, said().tolist(), TRUTH.tolist()) for name in ("a", "b b", "c")]
    evaluated(runs[2])
    with pytest.raises(SightlineError, match="2 runs have no results on the split test") as caught:
        compare(runs, "test")
    commands = [f"sightline evaluate {quote(str(run))} --split test" for run in runs[:2]]
    assert caught.value.cure == " && ".join(commands)
    append_line(runs[2] / "metrics.jsonl", json.dumps({"event": "done"}))
    with pytest.raises(SightlineError, match="3 runs have no results"):
        compare(runs, "test")  # trained further since the evaluation
    with pytest.raises(SightlineError, match="--split is for a comparison of several runs"):
        sightline.report(runs[0], split="test")


def test_every_task_is_compared_on_the_test_split(tmp_path: Path) -> None:
    pair = [evaluated(segmenter(tmp_path / f"s{n}", *masks(0.1 * n, 0)), digest="") for n in (1, 2)]
    assert len(compare(pair, "test").pairs) == 1
    (pair[1] / "predictions/test-confusion.npz").unlink()
    (lost,) = compare(pair, "test").unpaired
    assert lost.cure == f"sightline evaluate {quote(str(pair[1]))} --split test"
    found = compare([evaluated(pretraining(tmp_path / f"p{n}", 0.5)) for n in (1, 2)], "test")
    assert [entry.quality for entry in found.entries] == [0.25, 0.25], "of the test split, not of the validation"


def test_without_an_interval_there_is_no_p_value() -> None:
    pair = SimpleNamespace(difference=0.4, interval=(np.nan, np.nan), corrected=1.0, significant=False)
    comparison: Any = SimpleNamespace(pair_of=lambda name: pair, reference=None)
    entry: Any = SimpleNamespace(name="b")
    assert differences(comparison, entry) == ["+40.00, no interval", "none"]


def test_no_difference_is_above_100_points() -> None:
    """The t interval of 16 images, of which one model has 4 and the other 16 right, ends above 100 points."""
    apart = paired_difference(np.arange(16) < 4, np.arange(16) < 16)
    pair = SimpleNamespace(numbers=SimpleNamespace(difference=apart), level=0.999)
    low, high = apart.interval(0.999)
    assert high > 1 and RunPair.interval.fget(pair) == (pytest.approx(low), 1)  # ty: ignore
