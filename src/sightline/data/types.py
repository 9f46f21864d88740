"""Types of data: a source with its splits, decoded splits, and batches. Nothing here opens a file."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import torch

    from .decode.masks import MaskFacts

FOLDER_HINT = "did you point at the class folder itself? Give the folder that holds all class folders"


class Read(Protocol):
    """Image number `index` as RGB; thread-safe. With `side` > 0 it may be reduced, but not below twice that side."""

    def __call__(self, index: int, side: int = 0) -> Image.Image: ...


class ReadMask(Protocol):
    """Mask number `index` as class indices uint8 [H, W], 255 where ignored; thread-safe; adds counts to `facts`."""

    def __call__(self, index: int, facts: "MaskFacts | None" = None) -> np.ndarray: ...


@dataclass(frozen=True)
class Items:
    """One split. names: unique in the source, relative to its path. labels: int64 [N], or None without labels.

    stamps change when a file changes, the image's or the mask's; those of files begin with its size and a colon.
    Without masks, read_mask and mask_names are None. shards: a `shards.Shards` for a split that is streamed.
    groups: the group of each image from a table; an empty name for none.
    """

    names: tuple[str, ...]
    labels: np.ndarray | None
    read: Read
    stamps: tuple[str, ...]
    read_mask: ReadMask | None = None
    mask_names: tuple[str, ...] | None = None
    shards: Any = None
    groups: tuple[str, ...] | None = None

    def subset(self, indices: np.ndarray) -> "Items":
        """The items at `indices` int64 [M], in that order."""
        read, read_mask, mask_names = self.read, self.read_mask, self.mask_names
        return Items(
            names=tuple(self.names[i] for i in indices),
            labels=None if self.labels is None else self.labels[indices],
            read=lambda index, side=0: read(int(indices[index]), side),
            stamps=tuple(self.stamps[i] for i in indices),
            read_mask=None if read_mask is None else lambda index, facts=None: read_mask(int(indices[index]), facts),
            mask_names=None if mask_names is None else tuple(mask_names[i] for i in indices),
            groups=None if self.groups is None else tuple(self.groups[i] for i in indices),
        )


@dataclass(frozen=True)
class Source:
    """A data set. splits: `train`, `val` (where labeled) and perhaps `test`. notes: sentences for the user.

    Opened without `hold_out`, the splits are unchanged, and `all` is the only split of data without splits.
    """

    path: str
    layout: str
    classes: tuple[str, ...]
    splits: dict[str, Items]
    notes: tuple[str, ...]


def no_pairs() -> np.ndarray:
    """Sizes or counts of a split without masks."""
    return np.zeros((0, 0), np.int64)


@dataclass(frozen=True)
class Decoded:
    """A decoded split.

    images: uint8 [N, 3, H, W], memory-mapped copy-on-write (the file never changes). labels: int64 [N] or None.
    digest: SHA-256 over pixels, names, labels or masks, and classes. nbytes: size of the arrays. digests: of the pixels
    of each image, uint8 [N, 16], where known. stream: of data in shards a `stream.Stream`, which makes the training
    batches; `images` and `masks` then decode what is indexed.

    Of image-mask pairs, masks: uint8 [N, H, W], class indices and IGNORE. sizes: int64 [N, 2], height and width that
    each pair fills. counts: int64 [N, K], pixels of each class.
    """

    images: np.ndarray
    labels: np.ndarray | None
    names: tuple[str, ...]
    classes: tuple[str, ...]
    digest: str
    nbytes: int
    digests: np.ndarray | None = None
    masks: np.ndarray | None = None
    sizes: np.ndarray = field(default_factory=no_pairs)
    counts: np.ndarray = field(default_factory=no_pairs)
    stream: Any = None

    @property
    def targets(self) -> np.ndarray | None:
        """What a batch has as labels: the masks of pairs, else the labels."""
        return self.labels if self.masks is None else self.masks


@dataclass(frozen=True)
class Resident:
    """A whole split on a device. images: uint8 [N, 3, H, W]. labels: int64 [N], masks uint8 [N, H, W], or None."""

    images: "torch.Tensor"
    labels: "torch.Tensor | None"


@dataclass(frozen=True)
class Batch:
    """images: uint8 [N, C, H, W]. labels: int64 [N] or None; of pairs their masks, uint8 [N, H, W]. samples: int64 [N],
    indices in the split. All on one device.

    In a run of several processes, the part of one. whole: int64 [M], the samples of the parts of all, in order; None
    where this is all. start: offset of this part in it. lead: number of images at the front that belong to another
    part, and are only there to be mixed with others.
    """

    images: "torch.Tensor"
    labels: "torch.Tensor | None"
    samples: "torch.Tensor"
    epoch: int
    whole: "torch.Tensor | None" = None
    start: int = 0
    lead: int = 0

    @property
    def every(self) -> "torch.Tensor":
        """The samples of the batch in all processes."""
        return self.samples if self.whole is None else self.whole

    @property
    def share(self) -> float:
        """The fraction of the batch in this process, 0 to 1."""
        return (len(self.samples) - self.lead) / len(self.every)
