"""The claim that images belong together: "101 images in 1 group (frames of one film, by name and pixels)"."""

from functools import partial

import numpy as np

from sightline.stats.groups import found_groups

from .photographs import OBJECTS, TRANSFER, photographs
from .row import Claim, Row

SIDE = 32


def smooth(rng: np.random.Generator, count: int) -> np.ndarray:
    """Different images uint8 [N, 3, SIDE, SIDE] with large areas of similar color, as photographs have."""
    walk = rng.standard_normal((count, 3, 8, 8)).cumsum(2).cumsum(3)
    walk -= walk.min((1, 2, 3), keepdims=True)
    return (255 * walk / walk.max((1, 2, 3), keepdims=True)).astype(np.uint8).repeat(SIDE // 8, 2).repeat(SIDE // 8, 3)


def independent(rng: np.random.Generator, sets: int, count: int, names: int) -> list[bool]:
    """Whether groups are found among different images, numbered under `names` names."""
    files = [f"{'abcd'[row % names]}_{row // names:04d}.png" for row in range(count)]
    return [found_groups(files, smooth(rng, count), None) is not None for _ in range(sets)]


def numbered_photographs(rng: np.random.Generator, sets: int, count: int, variable: str) -> list[bool]:
    """Whether groups are found among photographs of ten classes, numbered in each class."""
    images, labels = photographs(variable)
    found = []
    for _ in range(sets):
        rows = rng.choice(len(images), count, replace=False)
        files = [f"{label}/img_{number:04d}.png" for number, label in enumerate(labels[rows])]
        found.append(found_groups(files, images[rows].transpose(0, 3, 1, 2), labels[rows]) is not None)
    return found


def films(rng: np.random.Generator, sets: int, count: int, each: int) -> list[bool]:
    """Whether films of `each` frames, in which the picture moves from one scene to another, are found."""
    found = []
    for _ in range(sets):
        ends = smooth(rng, 2 * (count // each)).astype(np.float64).reshape(-1, 2, 3, SIDE, SIDE)
        share = np.linspace(0, 1, each)[None, :, None, None, None]
        frames = ((1 - share) * ends[:, :1] + share * ends[:, 1:]).reshape(-1, 3, SIDE, SIDE)
        files = [f"film{row // each:03d}x_{row % each:05d}.png" for row in range(len(frames))]
        groups = found_groups(files, frames.astype(np.uint8), None)
        found.append(groups is not None and groups.count <= 2 * (count // each))
    return found


ALARMS = (0.0, 0.05)
CLAIMS = (
    Claim(
        "Intervals of one run",
        "101 images in 1 group (frames of one film, by name and pixels)",
        "every interval, if `data.group` and the table name no groups",
        (
            Row("different images, one name", "false alarms", partial(independent, names=1), ALARMS, (20, 100), 300, 9),
            Row("different images, four names", "false alarms", partial(independent, names=4), ALARMS, (20, 100), 300),
            Row("photographs of objects, numbered", "false alarms", partial(numbered_photographs, variable=OBJECTS),
                ALARMS, (50, 500), 200),
            Row("other photographs, numbered", "false alarms", partial(numbered_photographs, variable=TRANSFER),
                ALARMS, (50, 500), 200),
            Row("films of 20 frames", "power", partial(films, each=20), (0.9, 1.0), (100, 400), 200, 10),
            Row("one film", "power", partial(films, each=100), (0.9, 1.0), (100,), 200),
        ),
        "Real films and tiles: docs/data.md.",
    ),
)  # fmt: skip
