"""Build the parts of a run without a run folder."""

from collections.abc import Callable

from sightline.config.schema import Config
from sightline.engine import parts
from sightline.engine.parts import Parts
from sightline.tasks import TASKS
from sightline.tasks.files import typed


def build(config: Config, say: Callable[[str], None]) -> Parts:
    """Build model, data and learner of a new run; `say` receives the messages."""
    config = typed(config)
    return parts.build(TASKS[config.task].build, config, say)
