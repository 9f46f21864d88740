"""An allocation that fails becomes one message with the settings to lower; other errors stay what they are."""

import pytest
import torch

from sightline import SightlineError
from sightline.config import Config
from sightline.errors import ENVIRONMENT
from sightline.memory import explained_memory
from sightline.settings import resolve


def test_a_failed_allocation_names_the_cure() -> None:
    config = resolve(Config(), {"train.batch_size": 64, "optim.accumulate": 2})
    with pytest.raises(SightlineError, match="memory") as caught, explained_memory(config):
        torch.empty(2**50, dtype=torch.uint8)
    assert caught.value.status == ENVIRONMENT
    assert "--train.batch_size 32 --optim.accumulate 4" in caught.value.cure
    with pytest.raises(SightlineError), explained_memory(config):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(SightlineError), explained_memory(config):
        raise MemoryError


def test_a_command_without_settings_is_told_of_the_file() -> None:
    with pytest.raises(SightlineError) as caught, explained_memory(Config(), "runs/a/recipe.yaml"):
        raise MemoryError
    assert caught.value.cure == "lower train.eval_batch_size, now 256, in runs/a/recipe.yaml"


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), explained_memory(Config()):
        raise RuntimeError("shapes do not fit")
