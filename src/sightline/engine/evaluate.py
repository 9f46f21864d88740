"""Running a task's metrics over a split: the same function for the loop and for the command."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.cache import Decoded
from ..data.loader import Batch, evaluation_batches
from ..data.pair_cache import DecodedPairs
from ..runs.atomic import atomic_write
from ..runs.checkpoint import load_model
from ..runs.csv_io import RUN_COLUMNS, class_columns, csv_text
from ..tasks.classify.task import classification_numbers, surprise
from ..tasks.contract import Arrays, Task
from .device import autocast
from .distributed import align_buffers, told, world


@torch.inference_mode()
def evaluate(
    task: Task,
    decoded: Decoded | DecodedPairs,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    metrics: Callable[[Iterable[Batch]], tuple[dict[str, float], Arrays]] | None = None,
) -> tuple[dict[str, float], Arrays]:
    """The task's metrics and arrays over a whole split, in evaluation mode; training mode is restored.

    metrics: in place of the task's own. Metrics are over the data set, not averaged over batches. The same batch size,
    precision and thread count give the same numbers to the bit, also of several processes, which share the batches:
    all of them return the numbers, the first one the arrays.
    """
    module = task.parameters()
    training = module.training
    module.eval()
    try:
        with autocast(device, dtype):
            align_buffers(module)
            numbers, arrays = (metrics or task.metrics)(evaluation_batches(decoded, batch_size, device, world().share))
            return told(numbers), arrays
    finally:
        module.train(training)


def evaluate_checkpoints(
    task: Task,
    folders: list[Path],
    decoded: Decoded | DecodedPairs,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[dict[str, Any], Arrays]:
    """Evaluate one checkpoint, or the mean of the probabilities of several (an ensemble of epochs)."""
    if len(folders) == 1:
        task.parameters().load_state_dict(load_model(folders[0])[0])
        return evaluate(task, decoded, batch_size, device, dtype)
    numbers: dict[str, Any] = {}
    arrays: Arrays = {}
    probabilities, singles = [], []
    for folder in folders:
        task.parameters().load_state_dict(load_model(folder)[0])
        numbers, arrays = evaluate(task, decoded, batch_size, device, dtype)
        probabilities.append(arrays["probabilities"])
        singles.append(numbers["accuracy"])
    arrays["probabilities"] = np.stack(probabilities).mean(0, dtype=np.float64).astype(np.float32)
    mean, labels = torch.from_numpy(arrays["probabilities"]), torch.from_numpy(arrays["labels"])
    losses = surprise(mean, labels)
    arrays["losses"] = losses.numpy()
    numbers = classification_numbers(mean, labels, losses)
    return numbers | {"ensemble": [folder.name for folder in folders], "best_single": max(singles)}, arrays


def write_predictions(path: Path, decoded: Decoded, probabilities: np.ndarray) -> Path:
    """predictions CSV: filename, label (predicted), truth, confidence, then one probability a class.

    probabilities: float [N, K]. Nine digits, so that a float32 reads back to the bit. `truth` is empty without labels.
    """
    predicted = probabilities.argmax(1)
    confidence = probabilities.max(1)
    truth = [""] * len(predicted) if decoded.labels is None else [decoded.classes[i] for i in decoded.labels]

    def rows() -> Iterator[list[str]]:
        yield [*RUN_COLUMNS, *class_columns(decoded.classes)]
        for row, name in enumerate(decoded.names):
            values = [f"{value:.9g}" for value in probabilities[row]]
            yield [name, decoded.classes[predicted[row]], truth[row], f"{confidence[row]:.9g}", *values]

    return atomic_write(path, csv_text(rows()))
