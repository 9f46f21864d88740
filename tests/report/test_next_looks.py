"""What stands out is said, and what does not is not."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from sightline.insight.curves import history
from sightline.report.findings import Findings, confused_pairs, find, judge
from sightline.report.next_looks import MOST, next_looks, of_curves
from sightline.report.page import write_report
from sightline.report.run import Predictions, read_run
from sightline.tasks.classify.report import of_classifier
from sightline.tasks.segment.report import of_segmenter


def records(losses: list[float], wait: float = 0.0, best: int = 1, reason: str = "all epochs done") -> list[dict]:
    found: list[dict] = []
    for epoch, loss in enumerate(losses, 1):
        place = {"step": epoch, "epoch": epoch, "seconds": epoch}
        found.append({"event": "train", **place, "loss": loss, "data_wait": wait})
        found.append({"event": "eval", **place, "split": "val", "loss": loss, "best": epoch == best})
    end = {"step": len(losses), "epoch": len(losses), "seconds": 9}
    return [*found, {"event": "stop", **end, "reason": reason}, {"event": "done", **end, "best_epoch": best}]


def test_the_curves_say_overfitting_an_early_end_and_waiting() -> None:
    rising = of_curves(history(records([1.0, 0.5, 0.7], best=2)))
    assert [says.partition(":")[0] for says, _ in rising] == ["The validation loss rises after epoch 2"]
    falling = of_curves(history(records([1.0, 0.5, 0.4], best=3)))
    assert [says.partition(":")[0] for says, _ in falling] == ["The last epoch is the best"]
    assert not of_curves(history(records([1.0, 0.5, 0.4], best=3, reason="no better accuracy for 2 epochs")))
    assert not of_curves(history(records([1.0, 0.5, 0.52], best=2))), "a little more is no overfitting"
    assert "20.0% of the time" in of_curves(history(records([1.0, 0.5, 0.52], wait=0.2, best=2)))[0][0]
    once = records([1.0, 0.5, 0.52], best=2)
    once[0]["data_wait"] = 0.9
    assert not of_curves(history(once)), "the first batches are always waited for"


def judged(truth: Sequence[int], predicted: Sequence[int], confidence: float) -> list[str]:
    """What is said of these predictions of three classes."""
    arrays = (np.array(predicted), np.array(truth), np.full(len(truth), confidence))
    predictions = Predictions(tuple(map(str, range(len(truth)))), *arrays, ("a", "b", "c"))
    verdict, none = judge(predictions, 0), np.zeros(0, np.int64)
    confused = confused_pairs(predictions, verdict.pairs, {})
    found = Findings(history([]), verdict, [], confused, [], none, (), [], none)
    return [says for says, _ in of_classifier(found, predictions.classes)]


def test_a_class_of_few_images_and_a_single_mistake_are_not_named() -> None:
    truth = [0] * 20 + [1] * 20 + [2] * 4
    assert judged(truth, [0] * 20 + [1] * 20 + [0, 2, 2, 2], 0.98) == []
    assert judged(truth, [0] * 20 + [1] * 20 + [0, 0, 2, 2], 0.96) == ["c taken for a, twice: are the labels right?"]


def test_confidence_above_and_below_the_accuracy_is_told_apart() -> None:
    right, wrong = [0, 1] * 20, [0, 1] * 16 + [1, 0] * 4
    assert judged(right, right, 0.7) == [
        "Confidence: the model is less sure than it could be, by 30.0 points on the average"
    ]
    assert judged(right, wrong, 0.99)[-1].startswith("Confidence: the model is too sure of itself, by 19.0 points")


def test_no_more_than_a_few_are_shown() -> None:
    looks = [(f"look {number}", f"part-{number}") for number in range(MOST + 2)]
    shown = next_looks(looks) or ""
    assert [says in shown for says, _ in looks] == [True] * MOST + [False] * 2


def test_the_weakest_class_of_masks() -> None:
    counts = np.array([[[90, 10, 0], [5, 40, 5], [0, 0, 50]]])
    found = SimpleNamespace(per_image=counts, classes=("a", "b", "c"), worst={}, past=history([]))
    assert of_segmenter(found) == [("b: its IoU of 66.7% is the lowest", "class-by-class")]


def test_the_weakest_class_the_mistake_and_the_confidence(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", images=40, epochs=(1,))
    lines = (run / "predictions" / "val.csv").read_text(encoding="utf-8").splitlines()
    wrong = [line.replace("Maine & Coon,Maine & Coon", "犬,Maine & Coon") for line in lines]
    (run / "predictions" / "val.csv").write_text("\n".join(wrong) + "\n", encoding="utf-8")
    files = read_run(run)
    found = find(files)
    looks = of_classifier(found, files.classes)
    assert found.verdict and looks[0] == ("Maine & Coon: only 0.0% of its images are found", "where-it-goes-wrong")
    assert looks[1][0].startswith("Maine & Coon taken for 犬, 10 times") and looks[1][1] == "wrong-images"
    text = write_report(run).read_text(encoding="utf-8")
    for _, target in looks[:MOST]:
        assert f'href="#{target}"' in text and f'id="{target}"' in text
    assert next_looks([]) is None and np.isfinite(found.verdict.accuracy)
