"""Evaluation of a run: which split, whether its images are still the same, and a count of looks at test images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data.types import Source
from ..errors import SightlineError
from ..runs import run_folder
from ..runs.atomic import read_json_lines
from ..runs.log import RunLog


def note_look(
    folder: Path, step: int, epoch: int, split: str, path: str, numbers: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Count a look at a test split, or at other data, in the run's log."""
    earlier = [r for r in read_json_lines(folder / "metrics.jsonl") if r.get("event") == "test"]
    look = 1 + sum((r.get("path"), r.get("split")) == (path, split) for r in earlier)
    place = {"look": look, "split": split, "path": path}
    RunLog(folder, quiet=True).event("test", step=step, epoch=epoch, **place, **numbers)
    say(f"this is look {look} at these images; a number chosen after many looks is no longer a test")


def chosen_split(split: str | None, source: Source) -> str:
    """The split to measure: the one that was asked for, else `val`, else the only one that there is."""
    wanted = split or ("val" if "val" in source.splits or len(source.splits) > 1 else next(iter(source.splits)))
    if wanted not in source.splits:
        cure = " or ".join(f"--split {name}" for name in source.splits)
        raise SightlineError(f"there is no split {wanted!r}", where=source.path, cure=cure)
    return wanted


def warn_if_changed(folder: Path, split: str, digest: str, say: Callable[[str], None]) -> None:
    """Print a line where provenance.json has another digest of a split's images."""
    data = run_folder.provenance(folder).get("data")
    digests = data.get("digest") if isinstance(data, dict) else None
    if isinstance(digests, dict) and split in digests and digests[split] != digest:
        say(f"the images of {split} have changed since the run began: its numbers will not repeat")
