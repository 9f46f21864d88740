"""How many images a page shows, and of how many: of a large set it is a sample."""

import numpy as np

from ..insight.curves import number
from .findings import Findings
from .run import RunFiles
from .words import section


def pictured(files: RunFiles, found: Findings, kind: str = "validation") -> str:
    """A sentence on how many images a page shows; "" without any. kind: what its samples are."""
    parts, verdict = [], found.verdict
    if files.samples is not None:
        total = len(files.predictions.names) if files.predictions else split_size(files, "val")
        parts.append(f"{of(len(files.samples.rows), total)} {kind} images")
    if files.mistakes is not None and verdict is not None and not verdict.correct.all():
        kept, wrong = len(files.mistakes.rows), int((~verdict.correct).sum())
        parts.append(f"{of(kept, wrong)} wrong ones{', the surest' if kept < wrong else ''}")
    if files.train_samples is not None:
        parts.append(f"{of(len(files.train_samples.rows), split_size(files, 'train'))} training images")
    return sentence(parts)


def split_size(files: RunFiles, split: str) -> int:
    """How many images a split has; 0 where that is not known."""
    count = number(section(section(files.provenance, "data"), "counts").get(split))
    return int(count) if np.isfinite(count) else 0


def of(shown: int, total: int) -> str:
    """`24 of 500`, `all 24`; the first alone where the second cannot be."""
    return f"all {shown:,}" if shown == total else f"{shown:,} of {total:,}" if total > shown else f"{shown:,}"


def sentence(parts: list[str]) -> str:
    """The parts, one after the other."""
    return f"It has pictures of {'; of '.join(parts)}." if parts else ""
