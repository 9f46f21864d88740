"""Train, compare and use image classifiers, segmentation models and self-supervised backbones.

Every command is also a function of the same name:

    import sightline
    run = sightline.train("vgg13_scratch", data="photos/", **{"train.epochs": 10})
    print(run.metrics["accuracy"], run.report)

`sightline.load(run)` returns the trained model as an object:

    print(sightline.load(run).predict("photos/cat/0001.jpg"))
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config.schema import Config as Config
    from .data.cache import cache as cache
    from .data.shards.pack import pack as pack
    from .demo import demo as demo
    from .doctor import doctor as doctor
    from .errors import SightlineError as SightlineError
    from .evaluate import evaluate as evaluate
    from .export import export as export
    from .load import load as load
    from .predict import predict as predict
    from .recipes.listing import recipes as recipes
    from .repeat.run import repeat as repeat
    from .report.compare.listing import runs_below as runs_below
    from .reporting import report as report
    from .runs.run_folder import Run as Run
    from .segment_anything import masks as masks
    from .serve import serve as serve
    from .start.run import start as start
    from .sweep import sweep as sweep
    from .tasks.segment.score import score as score
    from .train import resume as resume
    from .train import train as train
    from .transfer.run import transfer as transfer

__version__ = "0.1.0"

# Public name -> its module. Modules are imported on first use, because torch takes seconds to import.
_MODULES = {
    "Config": "config.schema",
    "Run": "runs.run_folder",
    "SightlineError": "errors",
    "cache": "data.cache",
    "demo": "demo",
    "doctor": "doctor",
    "evaluate": "evaluate",
    "export": "export",
    "load": "load",
    "masks": "segment_anything",
    "pack": "data.shards.pack",
    "predict": "predict",
    "recipes": "recipes.listing",
    "repeat": "repeat.run",
    "report": "reporting",
    "resume": "train",
    "runs_below": "report.compare.listing",
    "score": "tasks.segment.score",
    "serve": "serve",
    "start": "start.run",
    "sweep": "sweep",
    "train": "train",
    "transfer": "transfer.run",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f".{_MODULES[name]}", __name__).__dict__[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


class _Package(ModuleType):
    """Class of this module, which keeps `sightline.train` the function although a submodule has the same name. The
    import of a submodule sets it as an attribute of its package, which would replace the function."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
