"""`sightline COMMAND ...`: settings taken off, the command called, every end of it turned into an exit status."""

import os
import sys
import traceback
from typing import Any

import cyclopts

from .cli import app, looking, packing, training, using  # noqa: F401 - each adds its commands to `app`
from .errors import INTERRUPTED, SightlineError, printable

TAKE_ALL = (training.train, training.resume, training.transfer, training.sweep)
TAKE_DATA = (looking.score, looking.doctor, packing.pack)
"""The commands that take settings of a recipe as options; the second ones those of its data alone."""


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
        wrong = [key for key in settings if not (command in TAKE_ALL or (command in TAKE_DATA and key[:5] == "data."))]
        if wrong:
            raise SightlineError(
                f"--{wrong[0]} belongs to train, resume, transfer and sweep", cure=f"leave out --{wrong[0]}"
            )
        status = command(*bound.args, **bound.kwargs | ({"settings": settings} if settings else {}))
    except cyclopts.CycloptsError as error:
        print(f"sightline: {printable(error)}\n  cure:  {cure_of(tokens)}", file=sys.stderr)
        return 2
    except SightlineError as error:
        tell(error)
        if debug:
            print(printable(traceback.format_exc()), end="", file=sys.stderr)
        return error.status
    except KeyboardInterrupt as stop:
        return stopped_at_once(stop)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stdout is gone; nothing more can be said to it
        return 0
    except Exception as error:
        if stop := interrupt_behind(error):
            return stopped_at_once(stop)
        print(printable(traceback.format_exc()), end="", file=sys.stderr)
        print("sightline: this is a fault in Sightline; please report it with the lines above", file=sys.stderr)
        return 1
    return status if isinstance(status, int) else 0


def tell(error: SightlineError) -> None:
    """Print an error; one of torchrun's processes says which it is, and of an interruption the first alone tells."""
    rank = os.environ.get("RANK", "0")
    if rank == "0" or error.status != INTERRUPTED:
        name = "sightline" if rank == "0" else f"sightline (process {rank})"
        print(f"{name}: {error}", file=sys.stderr)


def stopped_at_once(stop: KeyboardInterrupt) -> int:
    """The end after a second Ctrl-C, or after a signal outside the loop; its note is the command that goes on."""
    print("sightline: stopped at once; what was saved before stands", file=sys.stderr)
    for note in getattr(stop, "__notes__", [])[:1]:
        print(f"  cure:  {printable(note)}", file=sys.stderr)
    return INTERRUPTED


def interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C behind an error, if any: libraries that are just being loaded turn it into errors of their own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def cure_of(tokens: list[str]) -> str:
    """The cure for a command line that does not parse: the setting that an unknown option seems to mean."""
    from .config.resolve import all_keys

    keys = all_keys()
    for token in tokens:
        name = token.removeprefix("--").partition("=")[0].replace("-", "_")
        meant = [key for key in keys if token.startswith("--") and key.rpartition(".")[2] == name]
        if meant:
            return "settings are written with their section: " + " or ".join(f"--{key}" for key in meant)
    return "sightline --help, or sightline COMMAND --help"


def main() -> None:
    """Entry point of the command `sightline`."""
    status = run(sys.argv[1:])
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # gloo's threads may abort a process that ends in the ordinary way, after all is done


if __name__ == "__main__":
    main()
