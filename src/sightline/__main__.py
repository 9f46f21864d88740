"""Entry point of the command line: parse the arguments, run the command, and convert its outcome to an exit status."""

import gc
import io
import os
import sys
import traceback
from typing import Any

import cyclopts

from .cli import app, data, evaluation, inference, training  # noqa: F401 - each registers its commands in `app`
from .errors import INTERRUPTED, SightlineError, interrupt_behind, printable

ACCEPT_SETTINGS = (training.train, training.start, training.repeat, training.resume, training.transfer, training.sweep)
"""Commands that accept every setting of a recipe as an option --SECTION.KEY."""
ACCEPT_DATA_SETTINGS = (evaluation.evaluate, evaluation.score, data.doctor, data.pack)
"""Commands that accept the settings --data.KEY only."""


def split_settings(tokens: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Separate settings from the other arguments: (arguments for the parser cyclopts, {"section.key": value}). A
    setting is an argument `--section.key VALUE`. Raises SightlineError for a setting that is given twice."""
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
        key = setting_key(name.removeprefix("--"))
        if key in settings:
            raise SightlineError(f"--{key} is given twice", where="the command line", cure="remove one of the two")
        settings[key] = value
    return left, settings


def setting_key(name: str) -> str:
    """The key of a setting, in which - stands for _ in the names of sections and settings, but not in class names."""
    section, setting, *rest = name.split(".", 2)
    return ".".join([section.replace("-", "_"), setting.replace("-", "_"), *rest])


def run(tokens: list[str]) -> int:
    """Run the command line `tokens` (without the program's name) and return its exit status."""
    debug = "--debug" in tokens
    tokens = [token for token in tokens if token != "--debug"]
    try:
        left, settings = split_settings(tokens)
        left = ["/dev/stdin" if token == "-" else token for token in left]
        command, bound, _ = app.parse_args(left, exit_on_error=False, print_error=False)
        allowed = "" if command in ACCEPT_SETTINGS else "data." if command in ACCEPT_DATA_SETTINGS else None
        if wrong := [key for key in settings if allowed is None or not key.startswith(allowed)]:
            commands = "train, start, repeat, resume, transfer and sweep"
            why = f"it is a setting of a recipe, which only the commands {commands} accept"
            raise SightlineError(
                f"--{wrong[0]} is not an option of this command", why=why, cure=f"leave out --{wrong[0]}"
            )
        status = command(*bound.args, **bound.kwargs | ({"settings": settings} if settings else {}))
    except cyclopts.CycloptsError as error:
        print_error(parsing_error(error, tokens))
        return 2
    except SightlineError as error:
        print_error(error)
        if debug:
            print(printable(traceback.format_exc()), end="", file=sys.stderr)
        return error.status
    except KeyboardInterrupt as interrupt:
        return interrupted_status(interrupt)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - stdout is closed; the interpreter would fail to flush it
        return 0
    except Exception as error:
        if interrupt := interrupt_behind(error):
            return interrupted_status(interrupt)
        print(printable(traceback.format_exc()), end="", file=sys.stderr)
        print("sightline: this is a bug in Sightline; please report it with the lines above", file=sys.stderr)
        return 1
    return status if isinstance(status, int) else 0


def print_error(error: SightlineError) -> None:
    """Print an error, under torchrun with the rank of this process. The error of an interruption is printed by rank
    0 only."""
    rank = os.environ.get("RANK", "0")
    if rank == "0" or error.status != INTERRUPTED:
        name = "sightline" if rank == "0" else f"sightline (rank {rank})"
        print(f"{name}: {error}", file=sys.stderr)


def interrupted_status(interrupt: KeyboardInterrupt) -> int:
    """Print that a run was stopped immediately (a second Ctrl-C, or one outside the training loop); return the exit
    status.

    The first note of the exception, if it has one, is the command that resumes the run, and is printed as the cure.
    """
    print("sightline: stopped immediately; everything that was saved before is kept", file=sys.stderr)
    for note in getattr(interrupt, "__notes__", [])[:1]:
        print(f"  cure:  {printable(note)}", file=sys.stderr)
    return INTERRUPTED


def parsing_error(error: cyclopts.CycloptsError, tokens: list[str]) -> SightlineError:
    """The SightlineError for arguments that the parser rejects, with the command's usage or an option as the cure."""
    from .config.resolve import all_keys

    command = " ".join(("sightline", *(error.command_chain or ())))
    usage = f"{command} --help"
    if isinstance(error, cyclopts.MissingArgumentError) and error.argument is not None:
        name = error.argument.names[0]
        missing = "the value of" if name in tokens else "the option" if name.startswith("-") else "the argument"
        cure = "to list the recipes: sightline recipes; " if name == "RECIPE" else ""
        return SightlineError(f"{missing} {name} is missing", where=command, cure=f"{cure}usage: {usage}")
    if isinstance(error, cyclopts.UnusedCliTokensError):
        extra = (error.unused_tokens or [""])[0]
        cure = f"if this is the data set: --data {extra}; " if os.path.exists(extra) and "--data" not in tokens else ""
        return SightlineError(f"one argument too many: {extra!r}", where=command, cure=f"{cure}usage: {usage}")
    what = str(error).partition("\n")[0].rstrip(".")
    if isinstance(error, cyclopts.UnknownOptionError) and error.token:
        name = (error.token.keyword or "").removeprefix("--").replace("-", "_")
        keys = ["data.path"] if name == "data" else [key for key in all_keys() if key.endswith(f".{name}")]
        if keys:
            folder = "to name the folder of the results: --out runs/NAME; or " * (name == "name")
            cure = f"{folder}write a setting with its section: {' or '.join(f'--{key}' for key in keys)}"
            return SightlineError(f"there is no option --{name}", where=command, cure=cure)
    return SightlineError(what[0].lower() + what[1:], where=command, cure=f"usage: {usage}")


def main() -> None:
    """Run the command line of this process and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        if isinstance(stream, io.TextIOWrapper) and not encoding.lower().startswith("utf"):
            stream.reconfigure(errors="backslashreplace")  # such as a Windows console, which cannot print every name
    status = run(sys.argv[1:])
    gc.freeze()  # else the interpreter visits a quarter of a million objects of the imported modules when it ends
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # skips interpreter shutdown, in which gloo's threads may abort the process


if __name__ == "__main__":
    main()
