"""Numbers and facts in words."""

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
    """A large count with its unit of thousands or millions."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def times(value: int) -> str:
    """How often, in words where short."""
    return {1: "once", 2: "twice"}.get(value, f"{value} times")


def in_words(epochs: list[int]) -> str:
    """Epochs as text: "epoch 3", "epochs 1, 12 and 24"."""
    if len(epochs) == 1:
        return f"epoch {epochs[0]}"
    return f"epochs {', '.join(map(str, epochs[:-1]))} and {epochs[-1]}"


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
    name = str(provenance.get("device", ""))
    threads = int(number(provenance.get("threads"), 0))
    graphics = any(word in name.lower() for word in ("nvidia", "cuda", "tesla", "geforce", "mps", "amd radeon"))
    return name if graphics or not threads else f"{name}, {threads} thread{'s' if threads > 1 else ''}"


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
        return f"{begin} is {status(found.past)} at epoch {found.past.last_epoch:.3g}{reached}."
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
    return f"{sentence} Its most frequent mistake is to take {truth} for {predicted} ({times(often)})."


def finite(values: np.ndarray) -> bool:
    """Whether any value is a number."""
    return bool(np.isfinite(values).any())
