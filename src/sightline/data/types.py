"""Types of data: a source with its splits, decoded splits, and batches."""

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from .channels import RGB, Channels

if TYPE_CHECKING:
    import torch

    from .decode.kinds import Raster
    from .decode.masks import MaskFacts

FOLDER_HINT = "if this is the folder of one class, give the folder that contains all class folders: --data FOLDER"


class Read(Protocol):
    """Function that decodes image `index` to RGB, or to a `Raster` if the channels of the data are others; thread-safe.
    With `side` > 0 a JPEG image may be decoded at a reduced size, if both its sides remain at least twice `side`."""

    def __call__(self, index: int, side: int = 0) -> "Image.Image | Raster": ...


class ReadMask(Protocol):
    """Function that decodes mask `index` to class indices uint8 [H, W], 255 where ignored; thread-safe. facts: if
    given, the counts of this mask are added to it."""

    def __call__(self, index: int, facts: "MaskFacts | None" = None) -> np.ndarray: ...


@dataclass(frozen=True)
class Items:
    """The N images of one split.

    names: unique paths relative to the source. labels: class indices int64 [N], label sets bool [N, K] or numbers
    float32 [N] (see `label_arrays`); None if unlabeled. stamps: one text per image that changes when the image or mask
    file changes; for a file SIZE:TIME. read_mask, mask_names: None without masks.
    shards: an `index.Shards` if the split is in shards. groups: group names from a table, "" for images without a
    group.
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
        """Select the items at `indices` int64 [M], in that order."""
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
    """A data set: its classes, and the images of each split. splits: by name `train`, `val`, `test`; `all` if the
    data are not split. notes: sentences that are printed. channels: of all images; `top` may still be unknown (0)."""

    path: str
    layout: str
    classes: tuple[str, ...]
    splits: dict[str, Items]
    notes: tuple[str, ...]
    channels: Channels = RGB

    @property
    def listing_digest(self) -> str:
        """A digest of classes, names, labels and the sizes of files. Times of files and versions of libraries are left
        out, as a copy or another machine has others."""
        found = hashlib.sha256(repr(self.classes).encode())
        for name, items in sorted(self.splits.items()):
            sizes = (re.sub(r"(\d+):\d+|^torchvision .*", r"\1", stamp) for stamp in items.stamps)
            found.update("\n".join((name, *items.names, *sizes)).encode(errors="surrogateescape"))
            found.update(b"" if items.labels is None else items.labels.tobytes())
        return found.hexdigest()


@dataclass(frozen=True)
class Decoded:
    """A decoded split of N images.

    images: [N, C, H, W] of the type of `channels`, memory-mapped copy-on-write. labels: as of `Items`. digest:
    SHA-256 of pixels, names, labels or masks, and classes. nbytes: size of the arrays. digests: uint8 [N, 16], a hash
    of the pixels of each image, or None.

    stream: for data in shards, the `stream.Stream` that yields the training batches; else None. With a stream, indexing
    `images` and `masks` reads and decodes samples. missing: number of values without data, which are 0 in `images`.

    For image-mask pairs: masks: uint8 [N, H, W], class indices and IGNORE. sizes: int64 [N, 2], height and width of
    each pair without padding. counts: int64 [N, K], pixels of each class.
    """

    images: np.ndarray
    labels: np.ndarray | None
    names: tuple[str, ...]
    classes: tuple[str, ...]
    digest: str
    nbytes: int
    digests: np.ndarray | None = None
    groups: tuple[str, ...] | None = None
    masks: np.ndarray | None = None
    sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    counts: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    stream: Any = None
    channels: Channels = RGB
    missing: int = 0

    @property
    def targets(self) -> np.ndarray | None:
        """What a model is trained to predict: the masks if there are any, else the labels."""
        return self.labels if self.masks is None else self.masks


@dataclass(frozen=True)
class Resident:
    """A split whose images were copied to a device. images: uint8 [N, 3, H, W]. labels: as of `Decoded`, or masks
    uint8 [N, H, W]."""

    images: "torch.Tensor"
    labels: "torch.Tensor | None"


@dataclass(frozen=True)
class Batch:
    """A batch on one device; in distributed training, the part of it that one process computes.

    images: uint8 [N, C, H, W]. labels: as of `Decoded`, or masks uint8 [N, H, W]. samples: int64 [N], indices in the
    split.

    In distributed training, global_samples: int64 [M], the indices of the images of all processes; None if the batch is
    complete. start: index of this part's first image in the complete batch. overlap: number of leading images that
    belong to the part of the previous process; they are only partners for mixup and cutmix. draws: int64 [N], as of
    `loader.epoch_order` if an image may be drawn several times in an epoch, else None.
    """

    images: "torch.Tensor"
    labels: "torch.Tensor | None"
    samples: "torch.Tensor"
    epoch: int
    global_samples: "torch.Tensor | None" = None
    start: int = 0
    overlap: int = 0
    draws: "torch.Tensor | None" = None

    @property
    def keys(self) -> "torch.Tensor":
        """The numbers that random augmentation depends on, int64 [N]: another one for each draw of an image."""
        return self.samples if self.draws is None else self.draws

    @property
    def all_samples(self) -> "torch.Tensor":
        """The indices in the split of the batch's images in all processes, int64."""
        return self.samples if self.global_samples is None else self.global_samples

    @property
    def share(self) -> float:
        """The fraction of the complete batch that this process has, 0 to 1."""
        return (len(self.samples) - self.overlap) / len(self.all_samples)
