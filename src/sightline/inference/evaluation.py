"""Helpers of `sightline evaluate`: choose the split, detect changed images, count evaluations on test data."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data.channels import Channels
from ..data.sources.splits import OUTER
from ..data.test_ledger import TestImages, record, register
from ..data.types import Decoded, Source
from ..errors import SightlineError
from ..runs import run_folder
from ..runs.log import RunLog
from .reading import channels_text


def log_test_evaluation(
    folder: Path,
    moment: tuple[int, int],
    split: str,
    source: Source,
    numbers: dict[str, Any],
    say: Callable[[str], None],
    decoded: Decoded,
) -> dict[str, int]:
    """Log an evaluation on images that chose nothing: of a test split, the split OUTER, or data other than the run's.

    Except for OUTER, it is counted as a look at this test set, and the count is printed. moment: step and epoch of the
    weights. decoded: the images. Returns {"look": number of the look, "look_runs": number of runs with looks},
    empty for OUTER or if the look cannot be counted.
    """
    looks = {} if split == OUTER else counted_look(folder, source, split, say)
    step, epoch = moment
    facts = {"split": split, "images": len(decoded.names), "path": source.path, "digest": decoded.digest, **looks}
    RunLog(folder, quiet=True).event("test", step=step, epoch=epoch, **facts, **numbers)
    return looks


def counted_look(folder: Path, source: Source, split: str, say: Callable[[str], None]) -> dict[str, int]:
    """Record a look of a run at a test set; returns the numbers of looks as `log_test_evaluation` does."""
    seen = TestImages()
    for name in source.splits[split].names:
        seen.add(os.path.join(source.path, name))
    try:
        look = record(seen.keys or [register(source, split)], "evaluate", folder, [source.path])
    except SightlineError as error:
        say(f"warning: this look at the test set is not counted: {error.what}: {error.why}")
        return {}
    assert look is not None
    say(f"this is {look}; if you choose a model by these metrics, they are no unbiased test results")
    return {"look": look.number, "look_runs": look.runs}


def require_channels(found: Channels, wanted: Channels, where: str) -> None:
    """Raise SightlineError if images do not have the channels that a network needs. where: path of the images."""
    if (found.names, found.dtype) != (wanted.names, wanted.dtype):
        why = f"they have {channels_text(found)}, and the network needs {channels_text(wanted)}"
        cure = "use images like those of the training: --data PATH"
        raise SightlineError("the images have other channels", where=where, why=why, cure=cure)


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
