"""Hints on what to check next in a report."""

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


def test_hints_on_overfitting_too_few_epochs_and_slow_data() -> None:
    rising = curve_hints(history(records([1.0, 0.5, 0.7], best=2)))
    assert [text.partition(":")[0] for text, _ in rising] == [
        "The validation loss ends 40% above its minimum, at epoch 2"
    ]
    falling = curve_hints(history(records([1.0, 0.5, 0.4], best=3)))
    assert [text.partition(";")[0] for text, _ in falling] == ["The last epoch is the best"]
    assert not curve_hints(history(records([1.0, 0.5, 0.4], best=3, reason="no better accuracy for 2 epochs")))
    assert not curve_hints(history(records([1.0, 0.5, 0.52], best=2))), "a small increase is not overfitting"
    assert "20.0% of the time" in curve_hints(history(records([1.0, 0.5, 0.52], wait=0.2, best=2)))[0][0]
    once = records([1.0, 0.5, 0.52], best=2)
    once[0]["data_wait"] = 0.9
    assert not curve_hints(history(once)), "the first batches always wait"


def hints_for(
    truth: Sequence[int], predicted: Sequence[int], confidence: float, lowered: Sequence[str] = ()
) -> list[str]:
    """The hints for predictions of three classes."""
    arrays = (np.array(predicted), np.array(truth), np.full(len(truth), confidence))
    predictions = Predictions(tuple(map(str, range(len(truth)))), *arrays, ("a", "b", "c"))
    summary, none = summarize(predictions, None), np.zeros(0, np.int64)
    confused = confused_pairs(predictions, summary.pairs, {})
    found = Findings(history([]), summary, [], confused, [], none, (), [], none)
    return [text for text, _ in classifier_hints(found, predictions.classes, lowered)]


def test_classes_of_few_images_and_single_mistakes_have_no_hint() -> None:
    truth = [0] * 20 + [1] * 20 + [2] * 4
    assert hints_for(truth, [0] * 20 + [1] * 20 + [0, 2, 2, 2], 0.98) == []
    assert hints_for(truth, [0] * 20 + [1] * 20 + [0, 0, 2, 2], 0.96) == [
        "c predicted as a, twice, is the most frequent confusion"
    ]


def test_overconfidence_and_underconfidence() -> None:
    right, wrong = [0, 1] * 20, [0, 1] * 16 + [1, 0] * 4
    assert hints_for(right, right, 0.7) == [
        "The model is underconfident: mean confidence minus accuracy is -30.0 [-30.0, -21.2] points"
    ]
    (smoothed,) = hints_for(right, right, 0.7, ["loss.smoothing 0.1"])
    assert smoothed.endswith(". It was trained with loss.smoothing 0.1, which lowers confidences")
    over = hints_for(right, wrong, 0.99)[-1]
    assert over.startswith("The model is overconfident: mean confidence minus accuracy is +19.0 [+6.0, +3")
    assert hints_for(right, right, 0.95) == [], "40 right predictions of 95 % confidence are no evidence"


def test_the_number_of_hints_is_limited() -> None:
    hints = [(f"hint {number}", f"part-{number}") for number in range(MOST_HINTS + 2)]
    shown = hints_list(hints) or ""
    assert [text in shown for text, _ in hints] == [True] * MOST_HINTS + [False] * 2


def test_the_class_with_the_lowest_iou() -> None:
    counts = np.array([[[90, 10, 0], [5, 40, 5], [0, 0, 50]]])
    found = SimpleNamespace(per_image=counts, classes=("a", "b", "c"), worst={}, past=history([]))
    assert segmenter_hints(found) == [("b has the lowest IoU, 66.7%", "class-by-class")]


def test_the_hints_of_a_run_link_to_sections(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", images=40, epochs=(1,))
    lines = (run / "predictions" / "val.csv").read_text(encoding="utf-8").splitlines()
    wrong = [line.replace("Maine & Coon,Maine & Coon", "犬,Maine & Coon") for line in lines]
    (run / "predictions" / "val.csv").write_text("\n".join(wrong) + "\n", encoding="utf-8")
    files = with_samples(with_predictions(read_run(run)))
    found = compute_findings(files)
    hints = classifier_hints(found, files.classes)
    assert found.summary and hints[0] == ("Maine & Coon has the lowest recall, 0.0% of 10 images", "errors-by-class")
    assert hints[1][0].startswith("Maine & Coon predicted as 犬, 10 times") and hints[1][1] == "misclassified-images"
    text = write_report(run).read_text(encoding="utf-8")
    for _, target in hints[:MOST_HINTS]:
        assert f'href="#{target}"' in text and f'id="{target}"' in text
    assert hints_list([]) is None and np.isfinite(found.summary.accuracy)
