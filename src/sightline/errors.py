"""The error class for all problems that a user can solve, and helpers that format messages."""

import difflib
from collections.abc import Iterable

USER, ENVIRONMENT, INTERRUPTED, FINDINGS = 2, 3, 4, 5  # exit statuses; 1 is a bug in Sightline
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

    def __str__(self) -> str:
        lines = [shortened(printable(self.what))]
        for name in ("where", "why", "cure"):
            text = getattr(self, name)
            if text:
                body = shortened(printable(text))
                lines.append(f"  {name}:{body}" if body.startswith("\n") else f"  {name + ':':<7}{body}")
        return "\n".join(lines)


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


def nearest_hint(name: str, choices: Iterable[str]) -> str:
    """The text `; did you mean 'cat'?` with the most similar of `choices` to a name; '' if none is similar."""
    close = difflib.get_close_matches(name, [*choices], 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def some_of(names: list[str] | tuple[str, ...]) -> str:
    """The first eight names, separated by commas; an ellipsis follows if there are more."""
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def listing(items: list[str] | tuple[str, ...], limit: int = 20) -> str:
    """The first `limit` items, one per line, and how many more there are."""
    shown = "\n".join("    " + str(item).replace("\n", "\\n") for item in items[:limit])
    return shown + (f"\n    ... and {len(items) - limit:,} more" if len(items) > limit else "")
