"""Numbers and facts in words."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..insight.curves import History, number
from .findings import Findings
from .run import RunFiles


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


def supervisor_sentence(files: RunFiles, found: Findings) -> str:
    """One sentence for somebody who reads only one, and a second with the most frequent mistake."""
    model = str(section(files.recipe, "model").get("name") or "a model")
    weights = str(section(files.recipe, "model").get("weights") or "none")
    data = section(files.provenance, "data")
    counts = section(data, "counts")
    where = str(data.get("path") or section(files.recipe, "data").get("path") or "")
    start = "trained from scratch" if weights == "none" else f"trained from the weights {weights}"
    many = f" on {int(counts['train']):,} images" if number(counts.get("train")) > 0 else ""
    source = f" of {where}" if where else ""
    classes = f" in {len(files.classes)} classes" if files.classes else ""
    begin = f"{model}, {start}{many}{source}{classes},"
    if found.verdict is None:
        accuracy = found.past.evaluation["accuracy"]
        reached = (
            f"; best validation accuracy so far {percent(float(np.nanmax(accuracy)))}%" if finite(accuracy) else ""
        )
        return f"{begin} is {status(found.past)} at {in_words([found.past.last_epoch])}{reached}."
    verdict = found.verdict
    low, high = (percent(edge) for edge in verdict.interval)
    sentence = (
        f"{begin} puts {percent(verdict.accuracy)}% of {len(verdict.correct):,} validation images in the right class "
        f"(95% interval {low} to {high}%; always guessing the most frequent class would give "
        f"{percent(verdict.baseline)}%)."
    )
    if not found.confused:
        return sentence
    truth, predicted, often, _ = found.confused[0]
    if often == 1:
        wrong = int((~verdict.correct).sum())
        return f"{sentence} It is wrong on {f'{wrong} images, never twice in the same way' if wrong > 1 else 'one'}."
    return f"{sentence} Its most frequent mistake is to take {truth} for {predicted} ({times(often)})."


def finite(values: np.ndarray) -> bool:
    """Whether any value is a number."""
    return bool(np.isfinite(values).any())
