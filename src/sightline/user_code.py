"""Code of the user's own: a Python file that adds models, losses, augmentations, optimizers, tasks and recipes.

The file is loaded for one command, by its option --code FILE, or for one call, by the argument `code`. docs/extend.md
has examples. Runs, checkpoints and recipes cannot load code.
"""

import contextlib
import difflib
import functools
import inspect
import os
import re
import shlex
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from .errors import USER, SightlineError, interrupt_behind
from .runs.code_file import LOADED, CodeFile

P = ParamSpec("P")
R = TypeVar("R")

DICTS = {
    "MODELS": "sightline.models:MODELS",
    "SEGMENTERS": "sightline.models.segmenters:SEGMENTERS",
    "AUGMENTATIONS": "sightline.data.augment.own:AUGMENTATIONS",
    "OPTIMIZERS": "sightline.engine.optim:OPTIMIZERS",
    "TASKS": "sightline.tasks:TASKS",
    "RECIPES": "sightline.recipes:RECIPES",
}
"""Dict in the user's file -> the dict of Sightline to which it is added. LOSSES is added to those of all tasks.

They are imported when a file is loaded, because torch takes seconds to import.
"""
CALLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "MODELS": ("(size)", (), {"size": 0}),
    "SEGMENTERS": ("(classes)", (), {"classes": 0}),
    "LOSSES": ("(logits, targets, weights=None)", (0, 0), {"weights": None}),
    "AUGMENTATIONS": ("(images, draw)", (0, 0), {}),
    "OPTIMIZERS": ("(groups, optim)", (0, 0), {}),
    "RECIPES": ("()", (), {}),
}
"""Dict -> how Sightline calls the functions in it: (as text, positional arguments, keyword arguments)."""
ONE_AT_A_TIME = threading.RLock()
"""Held while a file of code is loaded and while a run is trained: one lock, so that these never wait for each other."""
NAMES = (*CALLS, "TASKS")
PACKAGE = str(Path(__file__).parent) + os.sep


def accepts_code(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator of public functions: the file in the keyword argument `code` is loaded while the function runs."""

    @functools.wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        code: Any = keywords.get("code")
        with loaded(code), torch_as_usual():
            return function(*arguments, **keywords)

    return call


def accepts_code_alone(function: Callable[P, R]) -> Callable[P, R]:
    """As `accepts_code`, for functions that train: a call waits until those of other threads end. Trainings draw their
    random numbers from torch's global generator, so that two at once would not be repeatable."""
    inner = accepts_code(function)

    @functools.wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        with ONE_AT_A_TIME:
            return inner(*arguments, **keywords)

    return call


@contextlib.contextmanager
def torch_as_usual() -> Generator[None]:
    """Context manager: compute with gradients and in float32, whatever a program has set in torch; its settings, number
    of threads and random state are as before at the end."""
    torch: Any = sys.modules.get("torch")
    if torch is None:  # not imported, so nothing can be set
        yield
        return
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_num_threads(threads)


@contextlib.contextmanager
def loaded(code: str | os.PathLike[str] | None) -> Generator[None]:
    """Context manager: load a file, add the entries of its dicts to those of Sightline, and remove them at the end.

    None changes nothing, so that a command can call another. An error in the user's code, also a later one within the
    block, becomes a SightlineError with the lines of the user's file that led to it.
    """
    if code is None:
        yield
        return
    with ONE_AT_A_TIME:  # a thread with another file, or with the same, waits until this one ends
        yield from loaded_file(code)


def loaded_file(code: str | os.PathLike[str]) -> Generator[None]:
    """Load a file for one call, see `loaded`; within this call, it may be loaded again."""
    file = read_code(Path(code))
    if LOADED:
        if LOADED[0].digest != file.digest:
            why, cure = f"{code} has other content", "put the parts of both into one file"
            raise SightlineError("another file of code is loaded", where=str(LOADED[0].path), why=why, cure=cure)
        yield
        return
    added: list[tuple[dict[str, Any], str]] = []
    try:
        add_all(executed(file), file, added)
        LOADED.append(file)
        yield
    except Exception as error:
        own = own_error(error, file)
        if own is None:
            raise
        raise own from error
    finally:
        LOADED.clear()
        for known, name in added:
            del known[name]


def read_code(path: Path) -> CodeFile:
    """Read a file of code, without executing it."""
    cure = "give the path of a Python file: --code my_parts.py"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SightlineError("cannot read the code", where=str(path), why=error.strerror or "", cure=cure) from error
    if b"\0" in content:
        raise SightlineError("cannot read the code", where=str(path), why="it is not a text file", cure=cure)
    return CodeFile(path.absolute(), content)


def executed(file: CodeFile) -> ModuleType:
    """Execute a file as a module. What is executed are the bytes whose digest the run keeps."""
    module = ModuleType(f"sightline_code_{file.digest[:12]}")
    module.__file__ = str(file.path)
    sys.modules[module.__name__] = module  # dataclasses and pydantic look up the module of a class
    try:
        exec(compile(file.content, str(file.path), "exec"), module.__dict__)
    except SystemExit as error:
        cure = "remove the call of sys.exit from the level of the module"
        raise SightlineError("your code ends the program (SystemExit)", where=str(file.path), cure=cure) from error
    return module


def add_all(module: ModuleType, file: CodeFile, added: list[tuple[dict[str, Any], str]]) -> None:
    """Check the dicts of a module and add their entries to those of Sightline; `added` gets each of them.

    Raises SightlineError if the module has none of the dicts, for a similar name, and for invalid entries.
    """
    where, dicts = str(file.path), {name: value for name, value in vars(module).items() if name.isupper()}
    wrong = {name: difflib.get_close_matches(name, NAMES, 1, 0.75) for name in dicts if name not in NAMES}
    for name, near in wrong.items():
        if near and isinstance(dicts[name], dict):
            raise SightlineError(f"there is no dict {name}", where=where, cure=f"did you mean {near[0]}?")
    if dicts.keys().isdisjoint(NAMES):
        cure = f"define at least one of these dicts: {', '.join(NAMES)}; for example MODELS = {{'my_net': my_net}}"
        raise SightlineError("this file adds nothing", where=where, cure=cure)
    tasks = list(resolve_name(DICTS["TASKS"]).values())
    for name in [name for name in NAMES if name in dicts]:
        values = dicts[name]
        if not isinstance(values, dict):
            raise SightlineError(f"{name} must be a dict", where=where, cure=f"write {name} = {{'name': function}}")
        shared = [task.losses() for task in tasks if task.losses] if name == "LOSSES" else [resolve_name(DICTS[name])]
        for key, value in values.items():
            check_entry(name, key, value, shared, where)
            for known in shared:
                known[key] = value
                added.append((known, key))


def check_entry(name: str, key: Any, value: Any, known: list[dict[str, Any]], where: str) -> None:
    """Raise SightlineError if the entry `key`: `value` of the dict `name` cannot be added to the dicts `known`."""
    if not isinstance(key, str) or not re.fullmatch(r"\w[\w.-]*", key):
        cure = "use letters, digits, _, - and ."
        raise SightlineError(f"{key!r} in {name} is not a valid name", where=where, cure=cure)
    if any(key in other for other in known):
        raise SightlineError(f"Sightline has {key!r} in {name} already", where=where, cure="choose another name")
    if name == "TASKS":
        task_class: Any = resolve_name("sightline.tasks.contract:Task")
        if not isinstance(value, task_class) or value.name != key:
            cure = f"write TASKS = {{{key!r}: Task(name={key!r}, ...)}}, with sightline.tasks.contract.Task"
            raise SightlineError(f"TASKS[{key!r}] is not the task {key!r}", where=where, cure=cure)
        return
    text, arguments, keywords = CALLS[name]
    if not callable(value):
        found = f"it is of the class {type(value).__name__}"
        raise SightlineError(f"{name}[{key!r}] is not a function", where=where, why=found, cure="remove or correct it")
    try:
        inspect.signature(value).bind(*arguments, **keywords)
    except TypeError as error:
        why, cure = f"{error}; Sightline calls it with {text}", f"define it with the arguments {text}"
        raise SightlineError(f"{name}[{key!r}] has other arguments", where=where, why=why, cure=cure) from error
    except ValueError:  # a function in C has no signature
        return


def own_error(error: Exception, file: CodeFile) -> SightlineError | None:
    """The error for the user, if their file led to `error`; None for other errors.

    An error of Sightline itself stays, with the lines of the user's file added if it was raised for an error in them.
    """
    if interrupt_behind(error):
        return None
    name = file.path.name
    if isinstance(error, SightlineError):
        cause = error.__cause__
        if error.status != USER or cause is None or isinstance(cause, SightlineError):
            return None
        lines, inside = own_lines(cause, file)
        if not lines or not inside:
            return None
        why = "\n".join([error.why, f"    {name}:", *lines]) if error.why else "\n" + "\n".join(lines)
        return SightlineError(error.what, where=error.where, why=why, cure=error.cure)
    lines, _ = own_lines(error, file)
    if not lines:
        return None
    cure = f"correct {shlex.quote(name)}, and replace a run that it began with --overwrite; a command with "
    cure += "--debug prints the complete traceback"
    return SightlineError("your code raised an error", where=str(file.path), why="\n" + "\n".join(lines), cure=cure)


def own_lines(error: BaseException, file: CodeFile) -> tuple[list[str], bool]:
    """(the part of the traceback that is in the user's file, and the error; whether Sightline called nothing after it).

    ([], False) if no line of the user's file led to the error.
    """
    source = file.content.decode("utf-8", "replace").splitlines()
    frames = traceback.extract_tb(error.__traceback__)
    involved = [frame for frame in frames if frame.filename == str(file.path) or frame.filename.startswith(PACKAGE)]
    own = [frame for frame in involved if frame.filename == str(file.path)]
    if isinstance(error, SyntaxError) and error.filename == str(file.path):
        return ["    " + line for line in syntax_lines(error)], True
    if not own:
        return [], False
    lines = []
    for frame in own:
        number = frame.lineno or 0
        lines += [
            f"    line {number}, in {frame.name}",
            *[f"        {line.strip()}" for line in source[number - 1 : number]],
        ]
    last = involved[-1]
    if last is not own[-1]:
        inner = last.filename.removeprefix(PACKAGE)
        lines.append(f"    which called {last.name} in sightline/{inner}, line {last.lineno}")
    summary = traceback.format_exception_only(error)[-1].rstrip().splitlines() or [type(error).__name__]
    return [*lines, *[f"    {line}" for line in summary]], last is own[-1]


def syntax_lines(error: SyntaxError) -> list[str]:
    """The line number, the line and the message of a SyntaxError."""
    text = [f"    {error.text.strip()}"] if error.text else []
    return [f"line {error.lineno}", *text, f"{type(error).__name__}: {error.msg}"]
