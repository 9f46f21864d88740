"""What stands out is said, and what does not is not."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from sightline.insight.curves import history
from sightline.report.findings import Findings, compute_findings, confused_pairs, summarize
from sightline.report.page import write_report
from sightline.report.run import Predictions, read_run, with_predictions, with_samples
from sightline.report.sections import MOST_HINTS, curve_hints, hints_list
from sightline.tasks.classify.report import classifier_hints
from sightline.tasks.segment.report import segmenter_hints


def records(losses: list[float], wait: float = 0.0, best: int = 1, reason: str = "all epochs done") -> list[dict]:
    found: list[dict] = []
    for epoch, loss in enumerate(losses, 1):
        place = {"step": epoch, "epoch": epoch, "seconds": epoch}
        found.append({"event": "train", **place, "loss": loss, "data_wait": wait})
        found.append({"event": "eval", **place, "split": "val", "loss": loss, "best": epoch == best})
    end = {"step": len(losses), "epoch": len(losses), "seconds": 9}
    return [*found, {"event": "stop", **end, "reason": reason}, {"event": "done", **end, "best_epoch": best}]


def test_the_curves_say_overfitting_an_early_end_and_waiting() -> None:
    rising = curve_hints(history(records([1.0, 0.5, 0.7], best=2)))
    assert [says.partition(":")[0] for says, _ in rising] == ["The validation loss rises after epoch 2"]
    falling = curve_hints(history(records([1.0, 0.5, 0.4], best=3)))
    assert [says.partition(":")[0] for says, _ in falling] == ["The last epoch is the best"]
    assert not curve_hints(history(records([1.0, 0.5, 0.4], best=3, reason="no better accuracy for 2 epochs")))
    assert not curve_hints(history(records([1.0, 0.5, 0.52], best=2))), "a little more is no overfitting"
    assert "20.0% of the time" in curve_hints(history(records([1.0, 0.5, 0.52], wait=0.2, best=2)))[0][0]
    once = records([1.0, 0.5, 0.52], best=2)
    once[0]["data_wait"] = 0.9
    assert not curve_hints(history(once)), "the first batches are always waited for"


def judged(truth: Sequence[int], predicted: Sequence[int], confidence: float) -> list[str]:
    """What is said of these predictions of three classes."""
    arrays = (np.array(predicted), np.array(truth), np.full(len(truth), confidence))
    predictions = Predictions(tuple(map(str, range(len(truth)))), *arrays, ("a", "b", "c"))
    verdict, none = summarize(predictions, 0), np.zeros(0, np.int64)
    confused = confused_pairs(predictions, verdict.pairs, {})
    found = Findings(history([]), verdict, [], confused, [], none, (), [], none)
    return [says for says, _ in classifier_hints(found, predictions.classes)]


def test_a_class_of_few_images_and_a_single_mistake_are_not_named() -> None:
    truth = [0] * 20 + [1] * 20 + [2] * 4
    assert judged(truth, [0] * 20 + [1] * 20 + [0, 2, 2, 2], 0.98) == []
    assert judged(truth, [0] * 20 + [1] * 20 + [0, 0, 2, 2], 0.96) == ["c predicted as a, twice: are the labels right?"]


def test_confidence_above_and_below_the_accuracy_is_told_apart() -> None:
    right, wrong = [0, 1] * 20, [0, 1] * 16 + [1, 0] * 4
    assert judged(right, right, 0.7) == ["Confidence: the model is underconfident, by 30.0 points on average"]
    assert judged(right, wrong, 0.99)[-1].startswith("Confidence: the model is overconfident, by 19.0 points")


def test_no_more_than_a_few_are_shown() -> None:
    looks = [(f"look {number}", f"part-{number}") for number in range(MOST_HINTS + 2)]
    shown = hints_list(looks) or ""
    assert [says in shown for says, _ in looks] == [True] * MOST_HINTS + [False] * 2


def test_the_weakest_class_of_masks() -> None:
    counts = np.array([[[90, 10, 0], [5, 40, 5], [0, 0, 50]]])
    found = SimpleNamespace(per_image=counts, classes=("a", "b", "c"), worst={}, past=history([]))
    assert segmenter_hints(found) == [("b: its IoU of 66.7% is the lowest", "class-by-class")]


def test_the_weakest_class_the_mistake_and_the_confidence(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", images=40, epochs=(1,))
    lines = (run / "predictions" / "val.csv").read_text(encoding="utf-8").splitlines()
    wrong = [line.replace("Maine & Coon,Maine & Coon", "犬,Maine & Coon") for line in lines]
    (run / "predictions" / "val.csv").write_text("\n".join(wrong) + "\n", encoding="utf-8")
    files = with_samples(with_predictions(read_run(run)))
    found = compute_findings(files)
    looks = classifier_hints(found, files.classes)
    assert found.summary and looks[0] == ("Maine & Coon: only 0.0% of its images are recognized", "where-it-goes-wrong")
    assert looks[1][0].startswith("Maine & Coon predicted as 犬, 10 times") and looks[1][1] == "wrong-images"
    text = write_report(run).read_text(encoding="utf-8")
    for _, target in looks[:MOST_HINTS]:
        assert f'href="#{target}"' in text and f'id="{target}"' in text
    assert hints_list([]) is None and np.isfinite(found.summary.accuracy)
