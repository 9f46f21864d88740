"""Augmentations of the user's own: functions in a file that is given by --code (docs/extend.md)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...errors import SightlineError, nearest_hint

AUGMENTATIONS: dict[str, Callable[[Tensor, Callable[[int], Tensor]], Tensor]] = {}
"""Functions (images float [N, 3, H, W] in 0..1, draw) -> images of the same shape.

draw: count -> uniform random numbers float32 [N, count] in [0, 1), which depend only on seed, epoch, image and the name
of the augmentation. A file of the user's code adds entries; Sightline has none.
"""


def check_own(names: Sequence[str]) -> None:
    """Raise SightlineError for a name that is not in AUGMENTATIONS, and for a name that is given twice."""
    for name in names:
        if name not in AUGMENTATIONS:
            known = ", ".join(AUGMENTATIONS)
            cure = f"use one of {known}" if known else "give the file that defines it in AUGMENTATIONS: --code FILE"
            what = f"there is no augmentation {name!r}{nearest_hint(name, AUGMENTATIONS)}"
            raise SightlineError(what, where="augment.own", cure=cure)
    if len({*names}) < len(names):
        why = "it would have the same random numbers both times"
        raise SightlineError("an augmentation is given twice", where="augment.own", why=why, cure="give each name once")


def augmented(name: str, images: Tensor, draw: Callable[[int], Tensor]) -> Tensor:
    """Apply the augmentation `name`. Raises SightlineError if it does not return images of the same shape."""
    found = AUGMENTATIONS[name](images, draw)
    if isinstance(found, Tensor) and found.shape == images.shape and found.is_floating_point():
        return found.to(torch.float32)
    shown = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
    why = f"for float images {list(images.shape)} it returned {shown}"
    cure = "return float images of the same shape"
    raise SightlineError(f"the augmentation {name!r} has a wrong result", where="augment.own", why=why, cure=cure)
