"""`sightline demo`: train a classifier, a segmentation model and a transfer grid without downloading data."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from .config.paths import path_of
from .data.scenes import write_scenes
from .data.sources.libraries import write_digits
from .errors import SightlineError
from .runs.run_folder import Run
from .runs.terminal import print_plain
from .tasks.files import load_recipe_file
from .train import train
from .transfer.outcomes import GridResult
from .transfer.output import text_table
from .transfer.run import transfer

SCENES_TRAIN, SCENES_VAL, SCENES_SIDE = 80, 20, 128


def demo(*, out: str | os.PathLike[str] = "runs/demo", quiet: bool = False) -> list[Run | GridResult]:
    """Train a classifier on the digits of scikit-learn, a segmentation model on synthetic scenes, and a transfer grid;
    returns the runs and the grid.

    The transfer grid pre-trains on the digits 0 to 4, and then trains on ten labeled images each of the digits 5 to 9.
    Results are in OUT/digits, OUT/scenes and OUT/transfer, the data in OUT/scenes-data and OUT/digits-data. Raises
    SightlineError if OUT contains anything else.
    """
    folder = path_of(out)
    own = {"digits", "scenes", "transfer", "scenes-data", "digits-data"}
    if folder.exists() and (
        not folder.is_dir() or {name for name in os.listdir(folder) if not name.startswith(".")} - own
    ):
        raise SightlineError("this folder is not empty", where=str(folder), cure="choose another folder: --out FOLDER")
    say = (lambda text: None) if quiet else print_plain
    done: list[Run | GridResult] = []
    for name in ("digits", "scenes"):
        data = None
        if name == "scenes":
            data = write_scenes(folder / "scenes-data", SCENES_TRAIN, SCENES_VAL, size=SCENES_SIDE, seed=0)
            say(f"\ngenerated {SCENES_TRAIN + SCENES_VAL} synthetic land-cover scenes: {data}")
        run = folder / name
        again = (run / "recipe.yaml").is_file() and load_recipe_file(run / "recipe.yaml").name == name
        done.append(train(name, data, out=run, overwrite=again, quiet=quiet))
    digits = write_digits(folder / "digits-data")
    say("\ntransfer grid: five classifiers of the digits 5 to 9, each trained with ten labeled images per class:")
    source = digits / "pretraining"
    grid = transfer(
        "transfer_digits", digits / "target", unlabeled=source / "images", labeled=source / "labels.csv",
        out=folder / "transfer", overwrite=True, quiet=True,
    )  # fmt: skip
    say(text_table(grid))
    return [*done, grid]


def look_first(folder: Path, results: Sequence[Run | GridResult]) -> str:
    """What to look at first in the results of the demo in `folder`, and whether pre-training helped in its grid."""
    every = [one for result in results if isinstance(result, GridResult) for one in result.comparisons]
    gains = [one for one in every if one.first == "A" and one.second in ("B", "C")]
    digits, grid = (folder / name / "report.html" for name in ("digits", "transfer"))
    shown = next((one.sentence for one in gains if one.difference > 0 and one.p < 0.05), "")
    verdict = (
        f"pre-training helps here: {shown}"
        if shown
        else "no gain by pre-training is shown here, because a few images of digits are enough without it; "
        "docs/pretrain.md has photographs on which it gains 6.5 points"
    )
    return (
        f"look first at {digits}: its first sentence is the result with its interval, and Misclassified images shows "
        f"each mistake. In {grid}, {verdict}."
    )


def next_commands(folder: Path) -> list[tuple[str, str]]:
    """Commands that the demo suggests at its end, for the results in `folder`: (command, what it does)."""
    base = shlex.quote(str(folder))
    return [
        (
            f"sightline doctor {base}/scenes-data --data.palette landcover --out {base}-doctor",
            "check data before training",
        ),
        (f"sightline predict {base}/digits {base}/digits-data/target --out guesses.csv", "use the classifier"),
        (f"sightline predict {base}/scenes {base}/scenes-data/validation --out masks/", "use the segmentation model"),
        (f"sightline serve {base}/digits", "try the classifier in a web page on this machine"),
        (f"sightline export {base}/digits --format onnx", "use the classifier in other programs"),
        (f"sightline report {base}/transfer/A-0 {base}/transfer/C-p0-0", "compare two runs"),
        ("sightline start --help", "train on your own images: sightline start photos/"),
    ]
