"""What stands out is said, and what does not is not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sightline.insight.curves import history
from sightline.report.findings import find
from sightline.report.next_looks import MOST, next_looks, of_classifier, of_curves
from sightline.report.page import write_report
from sightline.report.run import read_run


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
