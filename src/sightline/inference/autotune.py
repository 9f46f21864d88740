"""Choose the batch size and the dtype for a prediction."""

import torch

from ..engine.device import bfloat16_gain, pick_precision, precision_name
from .predictor import Predictor, in_precision

CPU_BATCH, ACCELERATOR_BATCH = 32, 128
PRECISIONS = ("run", "auto", "fp32", "bf16")


def batch_size(device: torch.device, eval_batch_size: int) -> int:
    """The batch size for a prediction: 32 on a CPU, where larger batches are no faster; on other devices at most 128.

    eval_batch_size: the run's own `train.eval_batch_size`. On other devices it is an upper limit, because it is known
    to fit into memory.
    """
    return CPU_BATCH if device.type == "cpu" else min(ACCELERATOR_BATCH, eval_batch_size)


def choose_precision(predictor: Predictor, precision: str) -> Predictor:
    """Return the predictor with the dtype for `precision`.

    "run": the dtype of the run's training, but float32 if bfloat16 is measured to be slower on this CPU. "auto": chosen
    as by `train.precision auto`. "fp32" or "bf16": float32 or bfloat16.
    """
    if precision == "auto":
        precision = precision_name(pick_precision("auto", predictor.device))
    elif (
        precision == "run"
        and predictor.dtype == torch.bfloat16
        and predictor.device.type == "cpu"
        and bfloat16_gain() < 1
    ):
        precision = "fp32"
    return in_precision(predictor, precision)
