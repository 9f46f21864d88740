"""All masks of a picture: a grid of points, each asked for three masks; the good ones stay, and of doubles the best.

The steps and their settings are those of `SamAutomaticMaskGenerator` (Kirillov et al., arXiv 2304.02643). The loop is
our own, because transformers' pipeline for it forgets the stability scores and the points, brings each mask of a batch
to full size before it looks at the predicted IoU (4.6 GB for 64 points of a picture of 2448 x 2448), and at the end
holds every mask that is left at full size. Here only masks with a high predicted IoU become large, a few at a time, and
they are kept as run lengths. A test has both find the same masks.
"""

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torchvision.ops import nms

from ..errors import SightlineError
from .model import Embedded, Sam

SAME_BOX = 0.7
"""Of masks whose boxes have a larger IoU than this, only the one with the highest predicted IoU stays."""
OFFSET = 1.0
"""The stability score compares the mask at logits above +OFFSET with that above -OFFSET."""
LARGE = 2**23
"""Pixels of full-size logits at a time: 32 MB, and some times that for what is made of them."""
MOST_POINTS = 128
"""Points a side; their masks, three a point, must have different numbers in 16 bits."""


@dataclass(frozen=True)
class Settings:
    """How masks are looked for; the defaults are those of SAM's authors. quality, stability: 0 keeps all masks."""

    points_per_side: int = 32
    points_per_batch: int = 64
    quality: float = 0.88
    stability: float = 0.95

    def check(self) -> None:
        """SightlineError for values that mean nothing."""
        for name, most in (("points_per_side", MOST_POINTS), ("points_per_batch", MOST_POINTS**2)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                option = f"--{name.replace('_', '-')}"
                raise SightlineError(f"{option} is out of range", where=f"{option} {value}", cure=f"1 to {most:,}")
        for name in ("quality", "stability"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                cure = "0, which keeps all masks, to 1"
                raise SightlineError(f"--{name} is out of range", where=f"--{name} {value}", cure=cure)

    def decisive(self) -> dict[str, float]:
        """Those that decide which masks are found; how many points go at once does not."""
        return {name: value for name, value in asdict(self).items() if name != "points_per_batch"}


@dataclass(frozen=True)
class Segment:
    """One mask. rle: COCO's compressed run lengths, {"size": [h, w], "counts": text}. box: x, y, width, height.

    quality: the IoU that the model predicts for it. point: x, y of the point that gave it. area and box in pixels.
    """

    rle: dict[str, Any]
    area: int
    box: tuple[int, int, int, int]
    quality: float
    stability: float
    point: tuple[float, float]

    def mask(self) -> np.ndarray:
        """The mask, bool [H, W]."""
        from pycocotools import mask as coco

        with warnings.catch_warnings():  # of pycocotools 2.0.11 under NumPy 2, in its compiled part
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            return coco.decode(self.rle).astype(bool)


def nothing(done: int, of: int) -> None:
    """For those who need no progress."""


@torch.inference_mode()
def find_segments(
    sam: Sam, embedded: Embedded, settings: Settings, tell: Callable[[int, int], None] = nothing
) -> list[Segment]:
    """The masks of a picture, the largest first. tell: called with (points done, of how many) after each batch."""
    points = grid(settings.points_per_side, embedded.size)
    found: list[Segment] = []
    for batch in points.split(settings.points_per_batch):
        found += candidates(sam, embedded, batch, settings)
        tell(min(len(points), int(batch.storage_offset() // 2 + len(batch))), len(points))
    return sorted(without_doubles(found), key=lambda segment: -segment.area)


def grid(side: int, size: tuple[int, int]) -> torch.Tensor:
    """The middles of side x side fields of an image of this height and width: (x, y) float32 [side * side, 2]."""
    places = torch.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
    y, x = torch.meshgrid(places * size[0], places * size[1], indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def candidates(sam: Sam, embedded: Embedded, points: torch.Tensor, settings: Settings) -> list[Segment]:
    """The masks of some points [B, 2] that are good enough by both scores, and not empty."""
    labels = torch.ones((len(points), 1), dtype=torch.int64)
    logits, quality = sam.prompted(embedded, points[:, None], labels)
    several = len(quality) // len(points)
    wanted = quality > settings.quality if settings.quality else torch.ones_like(quality, dtype=torch.bool)
    room = max(1, LARGE // max(embedded.size[0] * embedded.size[1], max(embedded.seen) ** 2))
    found = []
    for places in wanted.nonzero()[:, 0].split(room):
        full = sam.full_size(embedded, logits[places])
        within = full > 0
        core, wide, area = (torch.count_nonzero(part, (1, 2)) for part in (full > OFFSET, full > -OFFSET, within))
        scores, good = core / wide, area > 0  # NaN where nothing is wide, and then the mask is empty
        if settings.stability:
            good &= scores > settings.stability
        for place in good.nonzero()[:, 0].tolist():
            own = int(places[place])
            scored = float(quality[own]), float(scores[place])
            found.append(segment_of(within[place].cpu(), *scored, points[own // several]))
    return found


def segment_of(mask: torch.Tensor, quality: float, stability: float, point: torch.Tensor) -> Segment:
    """A mask bool [H, W] with its scores, as run lengths."""
    from pycocotools import mask as coco

    columns = mask.to(torch.uint8).T.contiguous().numpy()  # pycocotools reads columns
    rle = coco.encode(columns.T)
    box = tuple(int(value) for value in coco.toBbox(rle))
    text = {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
    x, y = (round(value, 2) for value in point.tolist())
    return Segment(text, int(coco.area(rle)), (box[0], box[1], box[2], box[3]), quality, stability, (x, y))


def without_doubles(found: list[Segment]) -> list[Segment]:
    """The masks less those whose box is nearly that of a better one, the best first."""
    if not found:
        return []
    corners = [(x, y, x + width - 1, y + height - 1) for x, y, width, height in (segment.box for segment in found)]
    scores = torch.tensor([segment.quality for segment in found])
    return [found[place] for place in nms(torch.tensor(corners, dtype=torch.float32), scores, SAME_BOX).tolist()]


def ids_of(segments: list[Segment], size: tuple[int, int]) -> np.ndarray:
    """The number of a mask at each pixel, uint16 [H, W]: 1 is the first, later ones lie on earlier ones, 0 is none."""
    ids = np.zeros(size, np.uint16)
    for number, segment in enumerate(segments, 1):
        ids[segment.mask()] = number
    return ids
