"""The one error a user meets: what happened, where, why, and the cure."""

USER, ENVIRONMENT, INTERRUPTED, FINDINGS = 2, 3, 4, 5  # exit statuses; 1 is a fault in Sightline itself
LONGEST = 2000
"""Characters of one line of a message."""


class SightlineError(Exception):
    """A mistake or condition that the user can mend.

    what: one sentence naming the thing ("no images found"). where: a path, a config key or a line.
    why: the underlying reason. cure: a command or an edit. status: the exit status of the command,
    `USER` (wrong input), `ENVIRONMENT` (disk, memory, permission, network) or `INTERRUPTED` (resumable).
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
    """The text without the ends of lines that nobody reads: a class name of a damaged table may have a megabyte."""
    lines = text.split("\n")
    return "\n".join(
        line if len(line) <= LONGEST else f"{line[:LONGEST]}... and {len(line) - LONGEST:,} more characters"
        for line in lines
    )


def printable(text: object) -> str:
    """Text that any terminal can print: undecodable bytes and control characters become escapes, newlines stay."""
    escaped = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in escaped)


def counted(count: int, noun: str) -> str:
    """`1 mask`, `2,000 masks`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def some_of(names: list[str] | tuple[str, ...]) -> str:
    """The first eight names on one line, and that there are more."""
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def listing(items: list[str] | tuple[str, ...], limit: int = 20) -> str:
    """The first `limit` items, each on one line of its own, and how many more there are."""
    shown = "\n".join("    " + str(item).replace("\n", "\\n") for item in items[:limit])
    return shown + (f"\n    ... and {len(items) - limit:,} more" if len(items) > limit else "")
