"""Helpers of `sightline evaluate`: choose the split, detect changed images, count evaluations on test data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data.types import Source
from ..errors import SightlineError
from ..runs import run_folder
from ..runs.atomic import read_json_lines
from ..runs.log import RunLog


def log_test_evaluation(
    folder: Path, step: int, epoch: int, split: str, path: str, numbers: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Log an evaluation on a test split, or on data other than the run's; print how many there were."""
    earlier = [r for r in read_json_lines(folder / "metrics.jsonl") if r.get("event") == "test"]
    look = 1 + sum((r.get("path"), r.get("split")) == (path, split) for r in earlier)
    RunLog(folder, quiet=True).event("test", step=step, epoch=epoch, look=look, split=split, path=path, **numbers)
    say(
        f"this is evaluation {look} of the run on these images; if you choose a model by these metrics, "
        "they are no unbiased test results"
    )


def chosen_split(split: str | None, source: Source) -> str:
    """The split to evaluate: `split` if given, else `val` or the only one. Raises SightlineError if it is missing."""
    wanted = split or ("val" if "val" in source.splits or len(source.splits) > 1 else next(iter(source.splits)))
    if wanted not in source.splits:
        cure = "use " + " or ".join(f"--split {name}" for name in source.splits)
        raise SightlineError(f"the data have no split {wanted!r}", where=source.path, cure=cure)
    return wanted


def warn_if_changed(folder: Path, split: str, digest: str, say: Callable[[str], None]) -> None:
    """Print a warning if a split's images have another digest than provenance.json, which training wrote."""
    data = run_folder.provenance(folder).get("data")
    digests = data.get("digest") if isinstance(data, dict) else None
    if isinstance(digests, dict) and split in digests and digests[split] != digest:
        say(f"warning: the images of {split} have changed since the run began: its metrics cannot be reproduced")
