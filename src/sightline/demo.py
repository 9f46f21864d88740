"""`sightline demo`: a classifier, a segmenter and a transfer grid on data that needs no download."""

import os
import shlex
from pathlib import Path

from .data.scenes import write_scenes
from .data.sources.libraries import write_digits
from .errors import SightlineError
from .runs.run_folder import Run
from .runs.terminal import print_plain
from .tasks.files import load_recipe_file
from .train import train
from .transfer.outcomes import GridResult
from .transfer.results import text_table
from .transfer.run import transfer

SCENES_TRAIN, SCENES_VAL, SCENES_SIDE = 80, 20, 128


def demo(*, out: str | os.PathLike[str] = "runs/demo", quiet: bool = False) -> list[Run | GridResult]:
    """Train on data that needs no download: a classifier on scikit-learn's digits, a segmenter on synthetic scenes,
    and a transfer grid, from the digits 0 to 4 to a few labeled ones of 5 to 9.

    They are OUT/digits, OUT/scenes and OUT/transfer; what they train on, OUT/scenes-data and OUT/digits-data.
    """
    folder = Path(out)
    own = {"digits", "scenes", "transfer", "scenes-data", "digits-data"}
    strangers = folder.is_dir() and set(os.listdir(folder)) - own
    if strangers or (folder.exists() and not folder.is_dir()):
        raise SightlineError("this folder is not empty", where=str(folder), cure="choose another with --out")
    say = (lambda text: None) if quiet else print_plain
    done: list[Run | GridResult] = []
    for name in ("digits", "scenes"):
        data = None
        if name == "scenes":
            data = write_scenes(folder / "scenes-data", SCENES_TRAIN, SCENES_VAL, size=SCENES_SIDE, seed=0)
            say(f"\ndrew {SCENES_TRAIN + SCENES_VAL} synthetic land-cover scenes: {data}")
        place = folder / name
        again = (place / "recipe.yaml").is_file() and load_recipe_file(place / "recipe.yaml").name == name
        done.append(train(name, data, out=place, overwrite=again, quiet=quiet))
    digits = write_digits(folder / "digits-data")
    say("\ndoes pre-training pay? five ways to a classifier of the digits 5 to 9, ten labeled images of each:")
    source = digits / "pretraining"
    grid = transfer(
        "transfer_digits",
        digits / "target",
        unlabeled=source / "images",
        labeled=source / "labels.csv",
        out=folder / "transfer",
        overwrite=True,
        quiet=True,
    )
    say(text_table(grid))
    return [*done, grid]


def next_commands(folder: Path) -> list[tuple[str, str]]:
    """(a command that can be typed as it is, what it does) of what one does next with the demo in `folder`."""
    place = shlex.quote(str(folder))
    return [
        (f"sightline doctor {place}/scenes-data --out {place}-doctor", "what is wrong with data, before any training"),
        (f"sightline predict {place}/digits {place}/digits-data/target --out guesses.csv", "use a classifier"),
        (f"sightline predict {place}/scenes {place}/scenes-data/validation --out masks/", "use a segmenter"),
        (f"sightline serve {place}/digits", "try it in a page, on this machine"),
        (f"sightline export {place}/digits --format onnx", "take it elsewhere"),
        (f"sightline report {place}/transfer/A-0 {place}/transfer/C-0", "compare runs"),
        ("sightline recipes", "train on your own pictures: sightline train photos_scratch --data photos/"),
    ]
