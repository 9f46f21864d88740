"""The parts of a run by its configuration, whatever its task."""

from collections.abc import Callable

from ..config.schema import Config
from ..engine import parts
from ..engine.parts import Parts
from . import TASKS
from .files import typed


def build(config: Config, say: Callable[[str], None], precision: str = "", fresh: bool = True) -> Parts:
    """All parts of a training run; arguments and errors as of `engine.parts.build`."""
    config = typed(config)
    return parts.build(TASKS[config.task].training().build, config, say, precision, fresh)
