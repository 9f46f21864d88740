"""How far the work on pictures has come: a line now and then, with the time left."""

import time
from collections.abc import Callable

from ..errors import counted

TOLD = 10.0
"""Seconds between two lines of progress."""


class Progress:
    """Lines about how far the masks have come. of: how many pictures there are to do."""

    def __init__(self, say: Callable[[str], None], of: int):
        self.say, self.of, self.done, self.spent = say, of, 0, 0.0
        self.name, self.began, self.embedded = "", time.monotonic(), time.monotonic()
        self.told = self.began

    def begin(self, name: str) -> None:
        """The next picture."""
        self.name, self.began = name, time.monotonic()

    def points(self, done: int, of: int) -> None:
        """So many points of the picture have been asked; 0 once it is embedded."""
        now = time.monotonic()
        if not done:
            self.embedded = now
        if not done or done == of or now - self.told < TOLD:
            return
        left = (now - self.embedded) * (of - done) / done
        whole = self.spent / self.done if self.done else now - self.began + left
        left += whole * (self.of - self.done - 1)
        self.tell(now, f"{self.head()}; {self.name}: {done:,} of {of:,} points", left)

    def end(self) -> None:
        """The picture is done."""
        now = time.monotonic()
        self.done, self.spent = self.done + 1, self.spent + now - self.began
        if now - self.told >= TOLD and self.done < self.of:
            self.tell(now, self.head(), self.spent / self.done * (self.of - self.done))

    def head(self) -> str:
        """How many pictures are done."""
        return f"{self.done:,} of {counted(self.of, 'picture')}"

    def tell(self, now: float, text: str, left: float) -> None:
        """One line."""
        self.told = now
        self.say(f"{text}, about {in_words(left)} left")


def in_words(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
