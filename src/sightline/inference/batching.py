"""Predict images in batches: threads decode the next batch while the model computes."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from ..data.decode.images import planes
from ..data.loader import evaluation_batch_size
from ..errors import ENVIRONMENT, SightlineError, counted
from ..runs.terminal import duration
from .images import GivenImage
from .inputs import InputImage
from .predictor import Predictor
from .reading import ValueRange

PROGRESS_SECONDS = 10.0
MAX_BATCH = 128
Decoded = np.ndarray | SightlineError


def batch_size(device: torch.device, eval_batch_size: int, side: int) -> int:
    """The batch size for a prediction of square images with `side` pixels, see `evaluation_batch_size`.

    eval_batch_size: the run's own `train.eval_batch_size`. On other devices than a CPU it is an upper limit, because it
    is known to fit into memory.
    """
    limit = MAX_BATCH if device.type == "cpu" else min(MAX_BATCH, eval_batch_size)
    return evaluation_batch_size((side, side), limit, device)


@dataclass
class PredictedBatch:
    """A batch of N images with its predictions.

    errors: for images that could not be decoded, {index: error}. probabilities: float32 [N, K]; None if the model has
    no classes. features: float32 [N, D]; None if not requested. The rows of images that could not be decoded are NaN;
    if no image was decoded, both arrays are None.
    """

    images: Sequence[InputImage | GivenImage]
    errors: dict[int, SightlineError]
    probabilities: np.ndarray | None = None
    features: np.ndarray | None = None

    def rows(self, predictor: Predictor) -> list[list[str]]:
        """The rows of the table for this batch; for the columns see `Predictor.columns`."""
        return [self.row(index, image.name, predictor) for index, image in enumerate(self.images)]

    def row(self, index: int, name: str, predictor: Predictor) -> list[str]:
        """The row of the table for one image; for the columns see `Predictor.columns`."""
        found, classes = self.errors.get(index), predictor.classes
        error = "" if found is None else " ".join((found.why or found.what).split())
        if not classes:
            return [name, error]
        if error or self.probabilities is None:
            return [name, *[""] * (len(predictor.columns) - 2), error]
        values, decide = self.probabilities[index], predictor.decision.label
        first = () if decide is None else decide(values, classes)
        return [name, *first[:1], *[f"{value:.9g}" for value in (*first[1:], *values)], ""]


def predict_batches(
    images: Iterator[InputImage | GivenImage],
    predictor: Predictor,
    max_pixels: int,
    size: int,
    say: Callable[[str], None],
) -> Iterator[PredictedBatch]:
    """Yield the predictions of images in order, in batches of `size`. say: prints a warning at the end if the images
    have values that the network was not trained on. Raises SightlineError of status ENVIRONMENT."""
    values = ValueRange(predictor.channels)

    def decode(image: InputImage | GivenImage) -> Decoded:
        """Decode an image to [C, h, w], as the validation images of the run were decoded."""
        try:
            found = image.read(max_pixels, predictor.square.side, predictor.channels)
            values.add(image.name, planes(found))
            return predictor.resized(found)
        except SightlineError as error:
            if error.status == ENVIRONMENT:  # such as a missing library: no fault of this image
                raise
            return error

    queue: deque[tuple[list[InputImage | GivenImage], list[Future[Decoded]]]] = deque()
    with ThreadPoolExecutor() as pool:
        while batch := list(islice(images, size)):
            queue.append((batch, [pool.submit(decode, image) for image in batch]))
            if len(queue) > 1:
                yield predict_batch(*queue.popleft(), predictor)
        while queue:
            yield predict_batch(*queue.popleft(), predictor)
    if values.warning:
        say(values.warning)


def predict_batch(
    images: list[InputImage | GivenImage], futures: list[Future[Decoded]], predictor: Predictor
) -> PredictedBatch:
    """Predict a batch; images of the same shape share a forward pass."""
    decoded = [future.result() for future in futures]
    errors = {index: found for index, found in enumerate(decoded) if isinstance(found, SightlineError)}
    batch = PredictedBatch(images, errors)
    arrays = {index: found for index, found in enumerate(decoded) if isinstance(found, np.ndarray)}
    for shape in dict.fromkeys(array.shape for array in arrays.values()):
        indices = [index for index, array in arrays.items() if array.shape == shape]
        probabilities, features = predictor.predict(torch.from_numpy(np.stack([arrays[index] for index in indices])))
        batch.probabilities = with_rows(batch.probabilities, len(images), indices, probabilities)
        batch.features = with_rows(batch.features, len(images), indices, features)
    return batch


def with_rows(whole: np.ndarray | None, count: int, indices: list[int], values: np.ndarray | None) -> np.ndarray | None:
    """Write `values` to the rows `indices` of `whole` [count, D] and return it; None becomes an array of NaN."""
    if values is None:
        return whole
    if whole is None:
        whole = np.full((count, values.shape[1]), np.nan, np.float32)
    whole[indices] = values
    return whole


class ProgressLines:
    """Print the progress of a prediction every PROGRESS_SECONDS. A line has the share done and the time left; if the
    total is unknown, the number of images so far and their speed."""

    def __init__(self, say: Callable[[str], None], name: str = "", total: int = 0):
        self.say, self.name, self.total, self.done = say, name, total, 0
        self.start = self.reported = time.monotonic()

    @property
    def speed(self) -> float:
        """Images per second; for a large image that is predicted in tiles, pixels per second."""
        return self.done / max(time.monotonic() - self.start, 1e-9)

    def add(self, count: int) -> None:
        """Count images as done; for a large image that is predicted in tiles, pixels."""
        self.done += count
        if time.monotonic() - self.reported < PROGRESS_SECONDS or self.done == self.total:
            return
        self.reported = time.monotonic()
        if self.total:
            left = duration((self.total - self.done) / self.speed)
            self.say(f"{self.name}: {self.done / self.total:.0%}, about {left} left")
        else:
            self.say(f"{counted(self.done, 'image')}, {self.speed:,.0f} per second")
