"""`sightline doctor`: find errors in data before training, and how to correct each."""

import os
from typing import TYPE_CHECKING, Any

from ..config.paths import path_of
from ..runs.terminal import print_plain
from ..user_code import accepts_code

if TYPE_CHECKING:
    from .findings import Diagnosis


@accepts_code
def doctor(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] = "",
    model: str = "",
    fix: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    code: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> "Diagnosis":
    """Check `data`, in any layout that `train` accepts. If `data` is a run, find its validation labels that are likely
    wrong.

    out: the folder for doctor.html and doctor.json; runs/doctor by default, or the folder `doctor` of a run. weights:
    `pretrained`, a weight file or a run; with the features of this network, labels that may be wrong, crops and mirror
    images are found too. model: the network of the weights; timm/tf_efficientnet_lite0 or that of the run by default.
    fix: write
    clean.csv there, a list of the images without unreadable files, copies and images with several labels, for `train
    --data`. overwrite: replace an existing list. settings: `data.*`, as for `train`. The data are not changed. Raises
    SightlineError if there are no images.
    """
    from .diagnosis import diagnose

    say = (lambda text: None) if quiet else print_plain
    network = os.fspath(weights), model
    return diagnose(os.fspath(data), None if out is None else path_of(out), network, fix, overwrite, settings, say)
