"""Sightline turns a folder of images into a defended result.

Every command is also a function of the same name:

    import sightline
    run = sightline.train("vgg13_scratch", data="photos/", **{"train.epochs": 10})
    print(run.metrics["accuracy"], run.report)
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config.schema import Config
    from .data.cache import cache
    from .data.shards.pack import pack
    from .demo import demo
    from .doctor import doctor
    from .errors import SightlineError
    from .evaluate import evaluate
    from .export import export
    from .predict import predict
    from .recipes.listing import recipes
    from .reporting import report
    from .runs.run_folder import Run
    from .segment_anything import masks
    from .serve import serve
    from .sweep import sweep
    from .tasks.segment.score import score
    from .train import resume, train
    from .transfer.run import transfer

__version__ = "0.1.0"
__all__ = [
    "Config",
    "Run",
    "SightlineError",
    "cache",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "masks",
    "pack",
    "predict",
    "recipes",
    "report",
    "resume",
    "score",
    "serve",
    "sweep",
    "train",
    "transfer",
]

# Name -> module. Loaded on first use, because torch takes seconds to import and `sightline --help` must not wait.
_PLACES = {
    "train": "train",
    "resume": "train",
    "evaluate": "evaluate",
    "predict": "predict",
    "export": "export",
    "pack": "data.shards.pack",
    "masks": "segment_anything",
    "transfer": "transfer.run",
    "score": "tasks.segment.score",
    "serve": "serve",
    "sweep": "sweep",
    "report": "reporting",
    "recipes": "recipes.listing",
    "demo": "demo",
    "cache": "data.cache",
    "doctor": "doctor",
    "Config": "config.schema",
    "SightlineError": "errors",
    "Run": "runs.run_folder",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f".{_PLACES[name]}", __name__).__dict__[name]


class _Package(ModuleType):
    """Keeps `sightline.train` the function although a module has the same name.

    Importing a submodule sets it as an attribute of its package; for the names above that would hide the function.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
