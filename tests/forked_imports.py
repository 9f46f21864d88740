"""What the server of `forked.py` imports before it forks anything."""

import sympy  # noqa: F401 - by the first dry run of a model
import torch.distributed.fsdp  # noqa: F401

import forked  # noqa: F401
from reliability.toys import preload

preload()
