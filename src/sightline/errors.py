"""The error class for all problems that a user can solve, and helpers that format messages."""

import contextlib
import difflib
import os
import re
from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")

USER, ENVIRONMENT, INTERRUPTED, FINDINGS = 2, 3, 4, 5  # exit statuses; 1 is a bug in Sightline
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9_.-]*[a-z0-9])")
SHELL_ONLY = ("debug", "help", "upgrade", "nproc-per-node", "local-dir", "data-binary")
"""Options in messages that are no arguments of Sightline's functions."""
MAX_LINE = 2000
"""Longer lines of a message are cut after this number of characters."""


class SightlineError(Exception):
    """A problem that the user can solve.

    what: the problem in a few words ("no images found"). where: a path, a setting or a line. why: the reason. cure: a
    command or an edit that solves it. status: the exit status of the command: `USER` (invalid input), `ENVIRONMENT`
    (disk, memory, permission, network) or `INTERRUPTED` (the run can be resumed).
    """

    def __init__(self, what: str, *, where: str = "", why: str = "", cure: str = "", status: int = USER):
        super().__init__(what)
        self.what, self.where, self.why, self.cure, self.status = what, where, why, cure, status
        if note := python_form(f"{what} {where} {why} {cure}"):
            self.add_note(note)  # shown in the tracebacks of Python and IPython; the commands print str(error)

    def __str__(self) -> str:
        lines = [shortened(printable(self.what))]
        for name in ("where", "why", "cure"):
            text = getattr(self, name)
            if text:
                body = shortened(printable(text))
                lines.append(f"  {name}:{body}" if body.startswith("\n") else f"  {name + ':':<7}{body}")
        return "\n".join(lines)


def python_form(text: str) -> str:
    """A note with the Python form of the command-line options in a message, such as
    `in Python: --overwrite is overwrite=...; --optim.lr is **{"optim.lr": ...}`; "" if it has none."""
    names = dict.fromkeys(name for name in OPTION.findall(text) if name not in SHELL_ONLY)
    forms = {name: f'**{{"{name}": ...}}' if "." in name else f"{name.replace('-', '_')}=..." for name in names}
    return "in Python: " + "; ".join(f"--{name} is {form}" for name, form in forms.items()) if forms else ""


def shortened(text: str) -> str:
    """Cut the lines that are longer than MAX_LINE, such as a class name of a megabyte in a damaged table."""
    return "\n".join(
        line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}... and {len(line) - MAX_LINE:,} more characters"
        for line in text.split("\n")
    )


def printable(text: object) -> str:
    """Escape undecodable bytes and control characters except newlines, so that any terminal can print the text."""
    escaped = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    if escaped.isprintable():  # images of a page are strings of megabytes
        return escaped
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in escaped)


def interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The KeyboardInterrupt that caused an error, or None. Some libraries convert it when they are imported."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def counted(count: int, noun: str) -> str:
    """A number with its noun in the singular or plural: `1 mask`, `2,000 masks`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def of_type(kind: type[T], found: Any, name: str) -> T:
    """What a function of the user's code returned; SightlineError if it is of another type, as without `return`."""
    if isinstance(found, kind):
        return found
    what, cure = f"{name} must return an object of the class {kind.__name__}", f"return a {kind.__name__}"
    raise SightlineError(what, where=name, why=f"it returned {type(found).__name__}", cure=cure)


def nearest_hint(name: str, choices: Iterable[str]) -> str:
    """The text `; did you mean 'cat'?` with the most similar of `choices` to a name; '' if none is similar."""
    close = difflib.get_close_matches(name, [*choices], 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def nearest_path(path: str | os.PathLike[str]) -> str:
    """The cure for a path that does not exist: `did you mean 'photos/cats'?` with the most similar name in its folder,
    else `check the path`."""
    parent, name = os.path.split(os.path.normpath(path))
    with contextlib.suppress(OSError, ValueError):  # ValueError: a null byte
        if close := difflib.get_close_matches(name, os.listdir(parent or "."), 1, 0.6):
            return f"did you mean {os.path.join(parent, close[0])!r}?"
    return "check the path"


def some_of(names: list[str] | tuple[str, ...]) -> str:
    """The first eight names, separated by commas; an ellipsis follows if there are more."""
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def listing(items: list[str] | tuple[str, ...], limit: int = 20) -> str:
    """The first `limit` items, one per line, and how many more there are."""
    shown = "\n".join("    " + str(item).replace("\n", "\\n") for item in items[:limit])
    return shown + (f"\n    ... and {len(items) - limit:,} more" if len(items) > limit else "")
