"""Choose the batch size and the dtype of a prediction."""

import torch

from ..engine.device import bfloat16_gain, pick_precision, precision_name
from .predictor import Predictor, in_precision

CPU_BATCH, ACCELERATOR_BATCH = 32, 128
PRECISIONS = ("run", "auto", "fp32", "bf16")


def batch_size(device: torch.device, eval_batch_size: int) -> int:
    """Images in a batch: on a processor larger batches are no faster, and on an accelerator `train.eval_batch_size` has
    been proved to fit into its memory."""
    return CPU_BATCH if device.type == "cpu" else min(ACCELERATOR_BATCH, eval_batch_size)


def choose_precision(answers: Predictor, precision: str) -> Predictor:
    """The predictor with another dtype.

    precision: "run", the dtype that the run was trained and measured in, but float32 if bfloat16 is no faster on this
    processor; "auto", bfloat16 if it is faster by far; "fp32" or "bf16".
    """
    if precision == "auto":
        precision = precision_name(pick_precision("auto", answers.device))
    elif (
        precision == "run" and answers.dtype == torch.bfloat16 and answers.device.type == "cpu" and bfloat16_gain() < 1
    ):
        precision = "fp32"
    return in_precision(answers, precision)
