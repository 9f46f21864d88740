"""The parts of a run without a run folder."""

from collections.abc import Callable

from sightline.config.schema import Config
from sightline.engine import parts
from sightline.engine.parts import Parts
from sightline.tasks import TASKS
from sightline.tasks.files import typed


def build(config: Config, say: Callable[[str], None]) -> Parts:
    """All parts of a new training run."""
    config = typed(config)
    return parts.build(TASKS[config.task].build, config, say)
