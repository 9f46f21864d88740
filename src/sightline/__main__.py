"""The commands. Thin: parse, call the function of the same name, print; torch is imported only by what needs it."""

import math
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from . import __version__
from .errors import FINDINGS, INTERRUPTED, SightlineError, printable

app = cyclopts.App(
    name="sightline",
    help="Turns a folder of images into a defended result.\n\n"
    "Any setting of a recipe can follow as --section.key VALUE: --optim.lr 0.1, --train.epochs 60.",
    version=__version__,
    default_parameter=Parameter(negative=()),
)


def whole(kind: type, tokens: Sequence[cyclopts.Token]) -> int:
    """A whole number; cyclopts by itself rounds 37.5 to one."""
    text = tokens[0].value
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


Whole = Annotated[int, Parameter(converter=whole)]
Settings = Annotated[dict[str, Any] | None, Parameter(parse=False)]


@app.command
def demo(*, out: Path = Path("runs/demo"), quiet: bool = False) -> None:
    """Train a classifier, a segmenter and a transfer grid, without a download; prints where the reports are."""
    import sightline
    from sightline.commands import next_commands

    for run in sightline.demo(out=out, quiet=quiet):
        print(f"open this in a browser: {run.report.resolve()}")
    print("\nnext:")
    commands = next_commands(out)
    for command, what in commands:
        print(f"  {command:<{max(len(command) for command, _ in commands)}}  # {what}")


@app.command
def recipes(name: str | None = None, /) -> None:
    """List the shipped recipes; with NAME show one, resolved, as YAML."""
    import sightline

    print(sightline.recipes(name))


@app.command
def train(
    recipe: str,
    /,
    *,
    data: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    watch: bool = False,
    settings: Settings = None,
) -> None:
    """Train RECIPE: a shipped name, a .yaml, or a .py with a function recipe().

    Parameters
    ----------
    data
        Folder of images, CSV, or a name like sklearn:digits or torchvision:CIFAR100.
    out
        The run folder; runs/NAME by default.
    overwrite
        Replace the run that the folder holds.
    quiet
        Print the end only.
    watch
        Serve the report while it trains, on this machine only.
    """
    from .train import train as function

    run = function(recipe, data, out=out, overwrite=overwrite, quiet=quiet, watch=watch, **(settings or {}))
    if quiet:
        print(run.report)


@app.command
def resume(run: Path, /, *, extend: str = "stretch", quiet: bool = False, settings: Settings = None) -> None:
    """Go on after an interruption, or lengthen a finished run: --train.epochs 60.

    Parameters
    ----------
    extend
        stretch: lay the schedule over the new length. continue: keep the old one and hold its last rate.
    """
    from .resume import resume as function

    done = function(run, extend=extend, quiet=quiet, **(settings or {}))
    if quiet:
        print(done.report)


@app.command
def evaluate(run: Path, /, *, data: str | None = None, split: str | None = None) -> None:
    """Repeat a run's validation numbers, or measure it on other data; with 95 % intervals.

    Parameters
    ----------
    data
        Other labeled data; all of it is measured where it has no splits.
    split
        Which split; of the run's own data, val by default.
    """
    import sightline

    numbers = sightline.evaluate(run, data=data, split=split)
    for name, value in numbers.items():
        if name.endswith("_interval"):
            continue
        low, high = numbers.get(f"{name}_interval", (None, None))
        known = low is not None and math.isfinite(low)  # one image has no interval
        interval = f"  [{low:.4f}, {high:.4f}]" if known else ""
        print(f"{name:<18} {value:.6f}{interval}" if isinstance(value, float) else f"{name:<18} {value}")


@app.command
def predict(
    run: Path,
    /,
    *images: str,
    out: Path,
    overwrite: bool = False,
    features: bool = False,
    overlay: bool = False,
    tile: Whole = 1024,
) -> None:
    """Classify images into a table, or segment a folder of them into a folder of masks.

    IMAGES: folders, images, patterns in quotes ('photos/**/*.jpg'), lists (.txt, one path a line), or - for a list on
    standard input. The same command goes on with a table that was interrupted.

    Parameters
    ----------
    out
        The table of a classifier, .csv or .parquet, or the folder for the masks of a segmenter.
    overwrite
        Replace what is there.
    features
        Also the penultimate features, into NAME.features.npy; of a pre-training these alone.
    overlay
        Segmentation: also the masks laid over the images.
    tile
        Segmentation: images larger than this many pixels are predicted in overlapping tiles.
    """
    import sightline

    if not images:
        cure = "sightline predict RUN IMAGES --out FILE.csv"
        raise SightlineError("no images were named", why="IMAGES is missing", cure=cure)
    print(sightline.predict(run, images, out=out, overwrite=overwrite, features=features, overlay=overlay, tile=tile))


@app.command
def export(
    run: Path,
    /,
    *,
    format: str = "onnx",
    out: Path | None = None,
    data: str | None = None,
    int8: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Write a run's model for other programs, checked on its validation images.

    Parameters
    ----------
    format
        onnx: a graph with resize, normalization, class names and probabilities inside. safetensors: a folder with the
        weights and a script that loads them without Sightline.
    out
        The file or folder; by default RUN/export/model.onnx or RUN/export/safetensors.
    data
        Where the run's data lies now, if it has moved.
    int8
        Also a graph of 8-bit integers, with the accuracy that it costs.
    overwrite
        Replace what is there.
    quiet
        Print the path only.
    """
    import sightline

    options = {"out": out, "data": data, "int8": int8, "overwrite": overwrite, "quiet": quiet}
    print(sightline.export(run, format=format, **options))


@app.command
def score(*, truth: Path, pred: Path, palette: str = "", settings: Settings = None) -> None:
    """Score masks on disk against true masks, with no model: mean IoU with its interval, class by class.

    Parameters
    ----------
    truth
        Folder of the true masks.
    pred
        Folder of the predicted masks, of the same names.
    palette
        landcover, camvid or binary; class ids otherwise. --data.colors, --data.ignore and the like follow as settings.
    """
    from .config import Config
    from .score import score as function
    from .score import text
    from .settings import resolve

    data = resolve(Config(), (settings or {}) | ({"data.palette": palette} if palette else {})).data
    print(text(function(truth, pred, data, say=lambda line: print(line, file=sys.stderr))))


@app.command
def transfer(
    recipe: str,
    /,
    *,
    data: str | None = None,
    unlabeled: str | None = None,
    labeled: str | None = None,
    out: Path | None = None,
    settings_: Annotated[str | None, Parameter(name="--settings")] = None,
    seeds: str | None = None,
    classifier: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    settings: Settings = None,
) -> None:
    """Does pre-training pay? Train a grid of runs on DATA: from scratch, pre-trained with and without labels, frozen.

    Settings of a stage follow as --STAGE.section.key VALUE; the stages are labeled, unlabeled, full and frozen.

    Parameters
    ----------
    data
        The target: labeled images of the classes that matter.
    unlabeled
        Images to pre-train on without labels; or weights that were: a run, or a file.
    labeled
        Images to pre-train on with labels; or weights that were: a run, or a file.
    out
        The grid's folder; runs/NAME by default. The same command goes on with a grid that was interrupted.
    settings_
        Which of A (no pre-training), B (labels), C (no labels), D (as B, frozen), E (as C, frozen): ABCDE.
    seeds
        0,1,2 by default.
    classifier
        linear, or mlp: four layers 1000 wide.
    overwrite
        Remove the runs of another grid that lies in the folder.
    quiet
        Print the end only.
    """
    import sightline

    result = sightline.transfer(
        recipe,
        data,
        unlabeled=unlabeled,
        labeled=labeled,
        out=out,
        settings=settings_,
        seeds=seeds,
        classifier=classifier,
        overwrite=overwrite,
        quiet=quiet,
        **(settings or {}),
    )
    if quiet:
        print(result.report)


@app.command
def report(
    run: Path,
    /,
    *others: Path,
    out: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    pdf: bool = False,
    watch: bool = False,
    port: Whole = 0,
) -> None:
    """Draw the report of a run, or of a transfer grid, again, from what lies in its folder; of several runs, compare.

    Parameters
    ----------
    run
        A run, or a transfer grid.
    others
        Runs of the same task; each is compared with the first.
    out
        The folder of a comparison; runs/compare by default.
    overwrite
        Replace the comparison of other runs that the folder holds.
    quiet
        Print the page's path only.
    pdf
        Print the page to report.pdf too, with a Chromium or Chrome of this machine.
    watch
        Serve the page of a run that goes on, on this machine only, until Ctrl-C.
    port
        Where --watch serves; a free one by default.
    """
    import sightline

    options = {"out": out, "overwrite": overwrite, "quiet": quiet, "pdf": pdf, "watch": watch, "port": port}
    page = sightline.report(run, *others, **options)
    if not watch:
        print(page)


@app.command
def doctor(
    data: str,
    /,
    *,
    out: Path = Path("runs/doctor"),
    write_clean_list: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    settings: Settings = None,
) -> int:
    """What is wrong with DATA, before any training; of a run, which labels are likely wrong. Status 5: findings.

    Settings of the data follow as --data.key VALUE, as of train.

    Parameters
    ----------
    data
        Whatever train takes as --data; or a run, whose validation labels are checked.
    out
        The folder for doctor.html and doctor.json.
    write_clean_list
        A CSV for train --data, without unreadable files, copies and pictures of several labels.
    overwrite
        Replace that CSV.
    quiet
        Print the page's path only.
    """
    from .doctor import doctor as function

    options = {"out": out, "write_clean_list": write_clean_list, "overwrite": overwrite, "quiet": quiet}
    found = function(data, **options, **(settings or {}))
    if quiet:
        print(found.page)
    return FINDINGS if found.findings else 0


@app.command
def cache(*, clear: bool = False, folder: Path | None = None) -> None:
    """Show what the cache of decoded images holds; --clear removes it.

    Parameters
    ----------
    folder
        Where it lies, if not at its usual place: what data.cache_dir was set to.
    """
    import sightline

    print(sightline.cache(clear=clear, folder=folder))


def take_settings(tokens: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Split `--section.key VALUE` settings off a command line; what is left is cyclopts' to parse."""
    left: list[str] = []
    settings: dict[str, Any] = {}
    queue = list(tokens)
    while queue:
        token = queue.pop(0)
        name, equals, value = token.partition("=")
        section, dot, _ = name.removeprefix("--").partition(".")
        if not (name.startswith("--") and dot and section):
            left.append(token)
            continue
        if not equals:
            flag = not queue or (queue[0].startswith("--") and len(queue[0]) > 2)
            value = "true" if flag else queue.pop(0)
        key = name.removeprefix("--").replace("-", "_")
        if key in settings:
            raise SightlineError(f"--{key} is given twice", where="the command line", cure="keep one of them")
        settings[key] = value
    return left, settings


def run(tokens: list[str]) -> int:
    """Run one command line; returns its exit status."""
    debug = "--debug" in tokens
    tokens = ["/dev/stdin" if token == "-" else token for token in tokens if token != "--debug"]
    try:
        left, settings = take_settings(tokens)
        command, bound, _ = app.parse_args(left, exit_on_error=False, print_error=False)
        wrong = [
            key
            for key in settings
            if not (command in (train, resume, transfer) or (command in (score, doctor) and key[:5] == "data."))
        ]
        if wrong:
            raise SightlineError(f"--{wrong[0]} belongs to train, resume and transfer", cure=f"leave out --{wrong[0]}")
        status = command(*bound.args, **bound.kwargs | ({"settings": settings} if settings else {}))
    except cyclopts.CycloptsError as error:
        print(f"sightline: {printable(error)}\n  cure:  {cure_of(tokens)}", file=sys.stderr)
        return 2
    except SightlineError as error:
        print(f"sightline: {error}", file=sys.stderr)
        if debug:
            traceback.print_exc()
        return error.status
    except KeyboardInterrupt:
        return stopped_at_once()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stdout is gone; nothing more can be said to it
        return 0
    except Exception as error:
        if comes_from_interrupt(error):
            return stopped_at_once()
        traceback.print_exc()
        print("sightline: this is a fault in Sightline; please report it with the lines above", file=sys.stderr)
        return 1
    return status if isinstance(status, int) else 0


def stopped_at_once() -> int:
    """The end after a second Ctrl-C, or one before the first step."""
    print("sightline: stopped at once; what was saved before stands", file=sys.stderr)
    return INTERRUPTED


def comes_from_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: libraries that are just being loaded turn it into errors of their own."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def cure_of(tokens: list[str]) -> str:
    """The cure for a command line that does not parse: the setting that an unknown option seems to mean."""
    from .settings import all_keys

    keys = all_keys()
    for token in tokens:
        name = token.removeprefix("--").partition("=")[0].replace("-", "_")
        meant = [key for key in keys if token.startswith("--") and key.rpartition(".")[2] == name]
        if meant:
            return "settings are written with their section: " + " or ".join(f"--{key}" for key in meant)
    return "sightline --help, or sightline COMMAND --help"


def main() -> None:
    """Entry point of the command `sightline`."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
