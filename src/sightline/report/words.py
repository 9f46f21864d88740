"""Numbers and facts in words."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..insight.curves import History, number


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, never rounded up to 100 or down to 0."""
    value, least = 100 * share, 10**-digits
    inside = min(max(value, least), 100 - least) if 0 < share < 1 else value
    return f"{inside:.{digits}f}"


def count(value: float) -> str:
    """A count with thousands separated, one decimal below ten."""
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def bits(value: float) -> str:
    """A large count with its unit: thousands to quadrillions (10^15)."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def times(value: int) -> str:
    """How often, in words where short."""
    return {1: "once", 2: "twice"}.get(value, f"{value} times")


def in_words(epochs: Sequence[float]) -> str:
    """Epochs as text: "epoch 3", "epochs 1, 12 and 24"; a part of an epoch has one decimal."""
    names = [f"{epoch:.1f}".removesuffix(".0") for epoch in epochs]
    return f"epoch {names[0]}" if len(names) == 1 else f"epochs {', '.join(names[:-1])} and {names[-1]}"


def duration(seconds: float) -> str:
    """A time with its unit: 42 s, 7 min 31 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def status(past: History) -> str:
    """How the run stands, in a few words."""
    if past.finished:
        return "finished" if past.stop in ("", "all epochs done") else "stopped early"
    return "training is over, the end is not written" if past.stop else "still running, or interrupted"


def device(provenance: dict[str, Any]) -> str:
    """The device, with the number of threads where it is a processor."""
    name = device_name(provenance)
    threads = int(number(provenance.get("threads"), 0))
    graphics = any(word in name.lower() for word in ("nvidia", "cuda", "tesla", "geforce", "mps", "amd radeon"))
    return name if graphics or not threads else f"{name}, {threads} thread{'s' if threads > 1 else ''}"


def device_name(provenance: dict[str, Any]) -> str:
    """The device alone; older runs wrote the number of threads into its name."""
    return re.sub(r", \d+ threads?(?=\))| \(\d+ threads?\)", "", known(provenance.get("device")))


def known(value: object) -> str:
    """A text or number of provenance.json; "unknown" for whatever is neither."""
    usable = isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip()
    return str(value) if usable else "unknown"


def section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """A nested mapping of a recipe or provenance; empty where it is not one."""
    inner = values.get(name)
    return inner if isinstance(inner, dict) else {}


def finite(values: np.ndarray) -> bool:
    """Whether any value is a number."""
    return bool(np.isfinite(values).any())
