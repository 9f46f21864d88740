"""Running out of memory, in words that lead to a cure."""

import contextlib
from collections.abc import Generator

import torch

from .config import Config
from .errors import ENVIRONMENT, SightlineError

# What torch's processor allocator and the accelerators' libraries say; they have no exception type of their own.
PHRASES = ("not enough memory", "can't allocate memory", "out of memory", "cannot allocate memory")


@contextlib.contextmanager
def explained_memory(config: Config, recipe: str = "", cure: str = "") -> Generator[None]:
    """Turn an allocation that failed into a SightlineError of status ENVIRONMENT that names the settings to lower.

    recipe: the file in which to lower them, for commands that take no settings. cure: in place of all that.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = str(error)
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and not any(phrase in text.lower() for phrase in PHRASES):
            raise
        size, why = config.train.batch_size, (text.splitlines() or ["an allocation failed"])[0]
        if cure:
            raise SightlineError("the memory is too small for this", why=why, cure=cure, status=ENVIRONMENT) from error
        cure = f"smaller batches with the same mean gradient: --train.batch_size {max(1, size // 2)} "
        cure += f"--optim.accumulate {2 * config.optim.accumulate}; or a smaller --data.size or --model.name; "
        cure += f"while evaluating: --train.eval_batch_size {max(1, config.train.eval_batch_size // 2)}"
        if recipe:
            cure = f"lower train.eval_batch_size, now {config.train.eval_batch_size}, in {recipe}"
        raise SightlineError("the memory is too small for this", why=why, cure=cure, status=ENVIRONMENT) from error
