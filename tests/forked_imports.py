"""Imports of the fork server in forked.py."""

import sympy  # noqa: F401  imported by torch at the first dry run of a model
import torch.distributed.fsdp  # noqa: F401

import forked  # noqa: F401
from reliability.toys import preload

preload()
