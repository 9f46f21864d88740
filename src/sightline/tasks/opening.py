"""Open data once for several runs of one command."""

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar

from ..config.schema import Config
from .contract import Say

T = TypeVar("T")
OF_PIXELS = {"size", "fit", "eval_crop", "filter", "sampler", "cache_dir", "resident", "stream_mb"}
"""Settings in `data` on which files, labels and splits do not depend."""

KNOWN: ContextVar[dict[str, Any] | None] = ContextVar("KNOWN", default=None)
"""Within `opened_once`: settings of data -> what was opened."""


@contextmanager
def opened_once() -> Generator[None]:
    """Context manager: runs with the same settings of data share one listing of files, labels, splits and copies.

    Files that are added in the meantime are not noticed.
    """
    token = KNOWN.set({})
    try:
        yield
    finally:
        KNOWN.reset(token)


def shared(opener: Callable[[Any, Say], T]) -> Callable[[Any, Say], T]:
    """Make `opener(config, say)` return its earlier result within `opened_once`; its lines are printed once."""

    @wraps(opener)
    def call(config: Config, say: Say) -> T:
        known = KNOWN.get()
        if known is None:
            return opener(config, say)
        key = key_of(config)
        if key not in known:
            known[key] = opener(config, say)
        return known[key]

    return call


def key_of(config: Config) -> str:
    """The settings that a data set depends on, with those that only the task of the configuration has, as text."""
    values, common = config.model_dump(mode="json"), Config.model_fields
    own = {name: value for name, value in values.items() if name not in common}
    data = {name: value for name, value in values["data"].items() if name not in OF_PIXELS}
    return json.dumps([type(config).__qualname__, data, own], sort_keys=True)
