"""Configurations from a few settings."""

from collections.abc import Mapping
from typing import Any

from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.tasks import task_named


def configured(settings: Mapping[str, Any], where: str = "the command line") -> Config:
    """Apply dotted or nested settings to the defaults of the task in `settings["task"]`, or of the first task."""
    rest = {key: value for key, value in settings.items() if key != "task"}
    return resolve(task_named(settings.get("task"), where).config(), rest, where)
