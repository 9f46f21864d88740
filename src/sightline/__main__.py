"""The commands. Thin: parse, call the function of the same name, print; torch is imported only by what needs it."""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from . import __version__
from .errors import INTERRUPTED, SightlineError, printable

app = cyclopts.App(
    name="sightline",
    help="Turns a folder of images into a defended result.\n\n"
    "Any setting of a recipe can follow as --section.key VALUE: --optim.lr 0.1, --train.epochs 60.",
    version=__version__,
    default_parameter=Parameter(negative=()),
)
Settings = Annotated[dict[str, Any] | None, Parameter(parse=False)]


@app.command
def demo(*, out: Path = Path("runs/demo"), quiet: bool = False) -> None:
    """Train on data that installs with Sightline, in under two minutes; prints the report's path."""
    import sightline

    run = sightline.demo(out=out, quiet=quiet)
    print(f"open this in a browser: {run.report.resolve()}")


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
    """
    from .train import train as function

    run = function(recipe, data, out=out, overwrite=overwrite, quiet=quiet, **(settings or {}))
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
    from .train import resume as function

    function(run, extend=extend, quiet=quiet, **(settings or {}))


@app.command
def evaluate(run: Path, /, *, data: str | None = None, split: str = "val") -> None:
    """Repeat a run's validation numbers, or measure it on other data."""
    import sightline

    for name, value in sightline.evaluate(run, data=data, split=split).items():
        print(f"{name:<18} {value:.6f}" if isinstance(value, float) else f"{name:<18} {value}")


@app.command
def predict(run: Path, images: Path, /, *, out: Path, overwrite: bool = False) -> None:
    """Classify a folder of images (or one image) into a CSV."""
    import sightline

    print(sightline.predict(run, images, out=out, overwrite=overwrite))


@app.command
def report(run: Path, /) -> None:
    """Draw a run's figures and report.html again, from what lies in its folder."""
    import sightline

    print(sightline.report(run))


@app.command
def cache(*, clear: bool = False) -> None:
    """Show what the cache of decoded images holds; --clear removes it."""
    import sightline

    print(sightline.cache(clear=clear))


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
        settings[name.removeprefix("--").replace("-", "_")] = value
    return left, settings


def run(tokens: list[str]) -> int:
    """Run one command line; returns its exit status."""
    debug = "--debug" in tokens
    tokens = [token for token in tokens if token != "--debug"]
    left, settings = take_settings(tokens)
    try:
        command, bound, _ = app.parse_args(left, exit_on_error=False, print_error=False)
        if settings and command not in (train, resume):
            key = next(iter(settings))
            raise SightlineError(f"--{key} belongs to train and resume", cure=f"leave out --{key}")
        command(*bound.args, **bound.kwargs | ({"settings": settings} if settings else {}))
    except cyclopts.CycloptsError as error:
        print(f"sightline: {printable(error)}\n  cure:  sightline --help, or sightline COMMAND --help", file=sys.stderr)
        return 2
    except SightlineError as error:
        print(f"sightline: {error}", file=sys.stderr)
        if debug:
            traceback.print_exc()
        return error.status
    except KeyboardInterrupt:
        print("sightline: stopped at once; the last checkpoint stands", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stdout is gone; nothing more can be said to it
        return 0
    except Exception:
        traceback.print_exc()
        print("sightline: this is a fault in Sightline; please report it with the lines above", file=sys.stderr)
        return 1
    return 0


def main() -> None:
    """Entry point of the command `sightline`."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
