"""A ladder of tiny networks for `sightline start`, and a start that gets a signal."""

import importlib
import os
from dataclasses import replace
from typing import Any

from config_toys import configured
from forked import sightline_command
from sightline.recipes.ladders import LADDERS, LadderStep, images
from sightline.start import results

SMALL = {"model.name": "small_cnn", "model.args": {"widths": [8, 8], "hidden": 8}, "data.size": 16}
FAST = {"train.batch_size": 16, "train.precision": "fp32", "train.threads": 1, "report.samples": 0}
FROZEN = {"model.freeze": True, "train.epochs": 1}


def toy_steps() -> tuple[LadderStep, ...]:
    """A ladder of tiny networks."""
    base = {"task": "classify", **SMALL, **FAST}
    knn = configured(base | FROZEN | {"optim.name": "knn", "model.head": "knn"})
    probe = configured(base | FROZEN | {"optim.name": "lbfgs"})
    tuned = configured(base | {"train.epochs": 4})
    steps = images(knn, probe, tuned, tuned)
    return tuple(replace(step, sides=(16, 8)) if step.pretrained else step for step in steps)


def killed_start(photos: str, out: str, number: int) -> int:
    """Executed in a forked process: a start that gets the signal `number` after the second epoch of its last step."""
    loop: Any = importlib.import_module("sightline.train")
    end_epoch = loop.end_epoch

    def hit(run: Any, reason: str) -> Any:
        if run.config.name == "scratch" and run.progress.step == run.total_steps // 2:
            os.kill(os.getpid(), number)
        return end_epoch(run, reason)

    loop.end_epoch = hit
    results.png = lambda *arguments, **settings: b""
    LADDERS["labels"] = lambda side: toy_steps()
    return sightline_command("start", photos, "--weights", "none", "--out", out)
