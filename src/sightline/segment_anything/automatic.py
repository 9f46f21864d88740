"""Masks of all objects in an image: prompt with a grid of points, filter by quality, then non-maximum suppression.

The steps and settings are those of `SamAutomaticMaskGenerator` (Kirillov et al., arXiv 2304.02643). transformers'
mask-generation pipeline is not used: among others, it drops stability scores and points, and it upsamples every mask
of a batch before it filters by predicted IoU (4.6 GB for 64 points of a 2448 x 2448 image). Here only masks with a high
predicted IoU are upsampled, a few at a time, and stored as run lengths. A test compares the masks of both
implementations.

A mask is a dict as in COCO: `segmentation` (compressed run lengths {"size": [h, w], "counts": text}), `area`, `bbox`
(x, y, width, height), `predicted_iou`, `stability_score`, and `point`, the x, y of its prompt. Lengths are in pixels.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_convert, nms

from ..errors import SightlineError
from .model import ImageEmbedding, Sam

NMS_IOU = 0.7
"""If the boxes of two masks have a larger IoU than this, only the mask with the higher predicted IoU is kept."""
OFFSET = 1.0
"""The stability score is the IoU of two masks: of the pixels with logits above +OFFSET and of those above -OFFSET."""
PIXELS_AT_ONCE = 2**23
"""Maximum number of upsampled logits in memory at a time. They take 32 MB, and intermediate results a few times
that."""
RANGES = {"points_per_side": (1, 128), "points_per_batch": (1, 128**2), "quality": (0, 1), "stability": (0, 1)}
"""Minimum and maximum of each setting. The limits keep mask ids within 16 bits: 128 x 128 points have three masks
each."""


@dataclass(frozen=True)
class Settings:
    """Settings of mask generation, see `sightline.masks` for their meaning. The defaults are those of SAM's authors."""

    points_per_side: int = 32
    points_per_batch: int = 64
    quality: float = 0.88
    stability: float = 0.95

    def check(self) -> None:
        """Raise SightlineError for values out of range."""
        for name, (low, high) in RANGES.items():
            option, value = f"--{name.replace('_', '-')}", getattr(self, name)
            if not low <= value <= high:
                what, cure = f"{option} is out of range", f"use {option} from {low} to {high:,}"
                raise SightlineError(what, where=f"{option} {value}", cure=cure)


@torch.inference_mode()
def find_segments(
    sam: Sam, embedding: ImageEmbedding, settings: Settings, progress: Callable[[int], None] = lambda points: None
) -> list[dict[str, Any]]:
    """Find all masks of an image, the largest first. progress: called with the number of points after each batch."""
    found: list[dict[str, Any]] = []
    for batch in point_grid(settings.points_per_side, embedding.size).split(settings.points_per_batch):
        found += candidates(sam, embedding, batch, settings)
        progress(len(batch))
    return sorted(non_maximum_suppression(found), key=lambda segment: -segment["area"])


def point_grid(side: int, size: tuple[int, int]) -> torch.Tensor:
    """Points (x, y) of a regular grid on an image of `size` (height, width), in pixels: float32 [side * side, 2]."""
    centers = torch.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
    y, x = torch.meshgrid(centers * size[0], centers * size[1], indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def candidates(sam: Sam, embedding: ImageEmbedding, points: torch.Tensor, settings: Settings) -> list[dict[str, Any]]:
    """The masks for the prompts `points` float32 [B, 2] whose quality and stability exceed the thresholds and that
    are not empty."""
    labels = torch.ones((len(points), 1), dtype=torch.int64)
    logits, quality = sam.predict_logits(embedding, points[:, None], labels)
    per_point = len(quality) // len(points)
    wanted = quality > settings.quality if settings.quality else torch.ones_like(quality, dtype=torch.bool)
    at_once = max(1, PIXELS_AT_ONCE // max(embedding.size[0] * embedding.size[1], max(embedding.model_size) ** 2))
    found = []
    for rows in wanted.nonzero()[:, 0].split(at_once):
        full = sam.upsample(embedding, logits[rows])
        inside = full > 0
        core, wide, area = (torch.count_nonzero(part, (1, 2)) for part in (full > OFFSET, full > -OFFSET, inside))
        scores, good = core / wide, area > 0  # NaN where `wide` is 0; then the mask is empty too
        if settings.stability:
            good &= scores > settings.stability
        for index in good.nonzero()[:, 0].tolist():
            row = int(rows[index])
            found.append(
                encode_mask(inside[index].cpu())
                | {"predicted_iou": float(quality[row]), "stability_score": float(scores[index])}
                | {"point": [round(value, 2) for value in points[row // per_point].tolist()]}
            )
    return found


def encode_mask(mask: torch.Tensor) -> dict[str, Any]:
    """Encode a mask bool [H, W] as a dict with run lengths, area and box."""
    from pycocotools import mask as coco

    rle = coco.encode(np.asfortranarray(mask.to(torch.uint8).numpy()))
    area, box = int(coco.area(rle)), coco.toBbox(rle).astype(int).tolist()
    return {"area": area, "bbox": box, "segmentation": rle | {"counts": rle["counts"].decode("ascii")}}


def decode_mask(segment: dict[str, Any]) -> np.ndarray:
    """Decode the run lengths of a mask to bool [H, W]."""
    from pycocotools import mask as coco

    with warnings.catch_warnings():  # raised by pycocotools 2.0.11 with NumPy 2
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return coco.decode(segment["segmentation"]).astype(bool)


def non_maximum_suppression(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop each mask whose box overlaps that of a better mask by more than NMS_IOU.

    Returns the remaining masks by descending predicted IoU.
    """
    boxes = torch.tensor([segment["bbox"] for segment in found], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] -= 1  # from first to last pixel, as in the code of SAM's authors
    scores = torch.tensor([segment["predicted_iou"] for segment in found])
    return [found[index] for index in nms(box_convert(boxes, "xywh", "xyxy"), scores, NMS_IOU).tolist()]


def id_map(segments: Sequence[dict[str, Any]], size: tuple[int, int]) -> np.ndarray:
    """The id of the mask at each pixel, uint16 [H, W]; 0 outside all masks.

    The first mask in `segments` has the id 1. Where masks overlap, the later one is used.
    """
    ids = np.zeros(size, np.uint16)
    for number, segment in enumerate(segments, 1):
        ids[decode_mask(segment)] = number
    return ids
