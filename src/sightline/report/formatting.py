"""Format numbers and facts of a run as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..insight.curves import History, number


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, without the sign; a share between 0 and 1 is never rounded to 0 or 100."""
    value, least = 100 * share, 10**-digits
    inside = min(max(value, least), 100 - least) if 0 < share < 1 else value
    return f"{inside:.{digits}f}"


def count(value: float) -> str:
    """A count with thousands separators, and one decimal below ten."""
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def times(value: int) -> str:
    """A number of repetitions: "once", "twice", "3 times"."""
    return {1: "once", 2: "twice"}.get(value, f"{value} times")


def epochs_text(epochs: Sequence[float]) -> str:
    """Epochs as text: "epoch 3", "epochs 1, 12 and 24"; a fraction of an epoch has one decimal."""
    names = [f"{epoch:.1f}".removesuffix(".0") for epoch in epochs]
    return f"epoch {names[0]}" if len(names) == 1 else f"epochs {', '.join(names[:-1])} and {names[-1]}"


def duration(seconds: float) -> str:
    """A duration with units: 42 s, 7 min 31 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def status(past: History) -> str:
    """The state of a run as text: "finished", "stopped early", "trained, without final results", or "still running,
    or interrupted"."""
    if past.finished:
        return "stopped early" if past.stopped_early else "finished"
    return "trained, without final results" if past.stop else "still running, or interrupted"


def device(provenance: Mapping[str, Any]) -> str:
    """The device in provenance.json as text; for a CPU with its number of threads."""
    name, threads = known(provenance.get("device")), int(number(provenance.get("threads"), 0))
    graphics = any(word in name.lower() for word in ("nvidia", "cuda", "tesla", "geforce", "mps", "amd radeon"))
    return name if graphics or not threads else f"{name}, {threads} thread{'s' if threads > 1 else ''}"


def known(value: object) -> str:
    """A text or number of provenance.json as text; "unknown" for a value of any other type."""
    usable = isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip()
    return str(value) if usable else "unknown"


def section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The mapping under key `name` of a recipe or of provenance.json; {} if there is none."""
    inner = values.get(name)
    return inner if isinstance(inner, dict) else {}


def fixed(value: float) -> str:
    """A metric with four decimals, `0.7438`, or a dash of the same width if it is undefined."""
    return f"{value:.4f}" if value == value else f"{'-':>6}"


def fixed_interval(ends: Any) -> str:
    """An interval such as `[0.7201, 0.7611]`, or a dash of the same width if it is undefined."""
    low, high = ends
    known = low is not None and low == low
    return f"[{low:.4f}, {high:.4f}]" if known else f"{'-':<16}"
