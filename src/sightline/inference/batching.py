"""Pictures a chunk at a time: decoded while the model computes, in batches of the size that was measured to be best."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np
import torch

from ..config.schema import Config
from ..data.decode.images import open_image, planes
from ..errors import SightlineError
from .autotune import Way
from .inputs import Picture
from .predictor import Predictor

FIRST = 32
"""Pictures of the first chunk, on which the fastest way is looked for."""


@dataclass
class Chunk:
    """Some pictures with what came of them: probabilities [K] and features [D] by name's place, or an error."""

    pictures: list[Picture]
    groups: list[tuple[list[int], torch.Tensor]]
    errors: dict[int, str]
    probabilities: dict[int, np.ndarray] = field(default_factory=dict)
    features: dict[int, np.ndarray] = field(default_factory=dict)

    def rows(self, classes: Sequence[str]) -> tuple[list[list[str]], np.ndarray | None]:
        """The rows of the table, and their features float32 [N, D] if there are any."""
        rows = [
            row_of(picture.name, self.errors.get(place, ""), classes, self.probabilities.get(place))
            for place, picture in enumerate(self.pictures)
        ]
        if not self.features:
            return rows, None
        found = np.full((len(rows), len(next(iter(self.features.values())))), np.nan, np.float32)
        for place, values in self.features.items():
            found[place] = values
        return rows, found


def answered(
    pictures: Iterator[Picture],
    answers: Predictor,
    config: Config,
    find_way: Callable[[Predictor, torch.Tensor], Way] | None,
) -> Iterator[Chunk]:
    """Chunks with their answers; the next is decoded while the model computes. find_way: where it pays to look for one;
    it is given the first pictures."""

    def read(part: list[Picture]) -> Chunk:
        return read_chunk(part, answers, config.data.max_pixels)

    first, way = read(list(islice(pictures, FIRST))), Way(answers, FIRST)
    if find_way is not None and first.groups:
        way = find_way(answers, first.groups[0][1])
    for chunk in chain([first] * bool(first.pictures), ahead(batched(pictures, way.batch), read)):
        for places, pixels in chunk.groups:
            probabilities, features = way.answers.of(pixels)
            chunk.probabilities |= dict(zip(places, probabilities, strict=True)) if probabilities is not None else {}
            chunk.features |= dict(zip(places, features, strict=True)) if features is not None else {}
        chunk.groups = []
        yield chunk


def batched(pictures: Iterator[Picture], size: int) -> Iterator[list[Picture]]:
    """Consecutive pieces of `size` pictures."""
    while piece := list(islice(pictures, size)):
        yield piece


def ahead(pieces: Iterable[list[Picture]], read: Callable[[list[Picture]], Chunk]) -> Iterator[Chunk]:
    """`read` of each piece, one piece ahead of who asks."""
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for piece in pieces:
            coming = pool.submit(read, piece)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()


def read_chunk(pictures: list[Picture], answers: Predictor, max_pixels: int) -> Chunk:
    """The pictures as uint8 [G, 3, h, w] in groups of one shape, and why some cannot be read.

    As the run's validation images were decoded, so that predictions equal the run's own: images of exactly their size
    stay as they are (the model's transform resizes them), all others become the model's square.
    """

    def read(picture: Picture) -> np.ndarray | SightlineError:
        try:
            image = open_image(picture.path, max_pixels, answers.square.side)
        except SightlineError as error:
            return error
        return planes(image) if image.size[::-1] == answers.kept else answers.square.of(image)

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(read, pictures))
    errors = {
        place: found.why or found.what for place, found in enumerate(results) if isinstance(found, SightlineError)
    }
    by_shape: dict[tuple[int, ...], list[int]] = {}
    arrays = {place: found for place, found in enumerate(results) if isinstance(found, np.ndarray)}
    for place, array in arrays.items():
        by_shape.setdefault(array.shape, []).append(place)
    groups = [(same, torch.from_numpy(np.stack([arrays[place] for place in same]))) for same in by_shape.values()]
    return Chunk(pictures, groups, errors)


def row_of(name: str, error: str, classes: Sequence[str], probabilities: np.ndarray | None) -> list[str]:
    """One row: the probabilities, or empty fields and the error."""
    why = " ".join(error.split())
    if not classes:
        return [name, why]
    if probabilities is None:
        return [name, "", "", *[""] * len(classes), why]
    best = int(probabilities.argmax())
    return [name, classes[best], f"{probabilities[best]:.9g}", *[f"{value:.9g}" for value in probabilities], ""]
