"""Shapes of the regions of a class mask, for annotation programs."""

from collections.abc import Iterator
from typing import cast

import numpy as np
from contourpy import contour_generator
from scipy import ndimage

from .shapes import Shape, runs_of

TOLERANCE = 1.0
"""Largest distance in pixels between an exported polygon and the border of its region."""


def shapes_of(mask: np.ndarray, value: int, label: str) -> Iterator[tuple[Shape, np.ndarray]]:
    """The connected regions of the pixels of a class: (shape, pixels of the region, bool [height, width]).

    A region without holes is one polygon, whose corners are at most TOLERANCE pixels from the border; a region with
    holes, which a polygon cannot describe, is run lengths along the columns, without loss.
    """
    regions, _ = ndimage.label(mask == value)
    for number, box in enumerate(ndimage.find_objects(regions), 1):
        part = regions[box] == number
        # The contour runs between pixel centers, which have the coordinates 1, 2, ... in the padded part.
        lines = cast(list[np.ndarray], contour_generator(z=np.pad(part, 1).astype(float)).lines(0.5))
        pixels = np.zeros(mask.shape, bool)
        pixels[box] = part
        if len(lines) == 1:
            corner = (box[1].start - 0.5, box[0].start - 0.5)
            yield Shape(label, (simplified(lines[0][:-1], TOLERANCE) + corner,)), pixels
        else:
            yield Shape(label, runs=runs_of(pixels, by_columns=True)), pixels


def simplified(points: np.ndarray, tolerance: float) -> np.ndarray:
    """Leave out corners of a closed polygon, float64 [corners, 2], as long as each is at most `tolerance` from the new
    border (Douglas-Peucker). At least 3 corners remain."""
    ring = np.concatenate([points, points[:1]])
    farthest = int(np.linalg.norm(points - points[0], axis=1).argmax())
    kept, pending = {0, farthest}, [(0, farthest), (farthest, len(points))]
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        along, inner = ring[last] - ring[first], ring[first + 1 : last] - ring[first]
        share = np.clip(inner @ along / max(float(along @ along), 1e-9), 0, 1)
        distances = np.linalg.norm(inner - share[:, None] * along, axis=1)
        worst = int(distances.argmax())
        if distances[worst] > tolerance:
            kept.add(first + 1 + worst)
            pending += [(first, first + 1 + worst), (first + 1 + worst, last)]
    return points[sorted(kept)] if len(kept) > 2 else points
