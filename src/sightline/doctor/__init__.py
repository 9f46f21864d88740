"""`sightline doctor`: find errors in data before training, and how to correct each."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runs.terminal import print_plain
from ..user_code import accepts_code

if TYPE_CHECKING:
    from .findings import Diagnosis


@accepts_code
def doctor(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] = "runs/doctor",
    write_clean_list: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    code: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> "Diagnosis":
    """Check `data`, in any layout that `train` accepts. If `data` is a run, find its validation labels that are likely
    wrong.

    out: the folder for doctor.html and doctor.json. write_clean_list: path of a CSV to write, a list of the images
    without unreadable files, copies and images with several labels, for `train --data`. overwrite: replace an existing
    list. settings: `data.*`, as for `train`. The data are not changed. Raises SightlineError if there are no images.
    """
    from .diagnosis import diagnose

    say = (lambda text: None) if quiet else print_plain
    clean = None if write_clean_list is None else Path(write_clean_list)
    return diagnose(os.fspath(data), Path(out), clean, overwrite, settings, say)
