"""The contract of a task: the facts and functions by which every command trains, uses and reports its runs.

A task is a folder in `tasks/`. Its `__init__.py` declares one `Task`, which `TASKS` in `tasks/__init__.py` lists. Code
outside `tasks/` and `recipes/` calls the functions of this object and never compares a task's name.

Functions are declared with `lazy`, so that listing recipes or parsing the command line imports neither torch nor
matplotlib. tests/test_contract.py declares a complete task in one file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..errors import SightlineError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..config.schema import Config
    from ..data.types import Batch, Source
    from ..engine.parts import Parts
    from ..engine.state import Training
    from ..inference.options import PredictOptions
    from ..report.compare.kinds import TaskComparison
    from ..report.run import RunFiles
    from ..report.sections import Content

T = TypeVar("T")
Say = Callable[[str], None]
"""Prints one line for the user."""


def lazy(path: str) -> Callable[..., Any]:
    """Return a function that imports `package.module:name` when it is called, and calls `name` with its arguments."""

    def call(*arguments: Any) -> Any:
        return resolve_name(path)(*arguments)

    return call


@dataclass(frozen=True)
class Metric:
    """A validation metric by which epochs, trials and runs are ranked. title: its name as a heading."""

    title: str
    lower_is_better: bool = False

    def better(self, score: float, best: float | None) -> bool:
        """Whether `score` is better than `best`; True where there is no best score yet."""
        return best is None or (score < best if self.lower_is_better else score > best)


@dataclass(frozen=True)
class Task:
    """A task: facts, then functions. In every function `config` is an instance of the task's configuration class.

    An optional function is None if the task does not have the command; `unsupported` then has the reason.
    """

    name: str
    """The value of `task` in a recipe."""
    does: str
    """What its runs do, in the third person, for messages: "classifies images"."""
    config: "type[Config]"
    """The configuration class: the common sections and the task's own, with their defaults and checks."""
    metrics: Mapping[str, Metric]
    """The validation metrics that can rank epochs and trials, by their key in metrics.jsonl; the default first."""
    learns_from: Literal["labels", "masks", "nothing"]
    """The annotation that training images need."""
    predicts: Literal["label", "labels", "mask", "number", "features"]
    """What a run predicts for one image."""

    check: "Callable[[Any], None]"
    """(config): raise SightlineError for settings that are invalid whatever the data are."""
    open: "Callable[[Any, Say], Source]"
    """(config, say) -> the file names, labels and splits of the data; no image is decoded."""
    build: "Callable[[Any, Say, str, bool], Parts]"
    """(config, say, precision, fresh) -> data, model and learner of a run; arguments as of `engine.parts.build`. The
    learner computes the loss and the metrics, see `engine.parts.Learner`."""
    preview: "Callable[[Training, Batch], Figure]"
    """(training, batch) -> a figure of a training batch after augmentation."""
    results: "Callable[[Training], tuple[dict[str, Any], str]]"
    """(training) -> (the final numbers with their intervals, a sentence). Writes predictions and report files."""
    evaluate: "Callable[[Path, Any, str, str | None, Say], dict[str, Any]]"
    """(run folder, config, path of other data or "", split or None, say) -> numbers with their intervals."""
    report: "Callable[[RunFiles, Mapping[str, Metric], bool], Content]"
    """(files, metrics, whether the run is still training) -> sections and figures of the run's page, from its files."""
    comparison: "Callable[[], TaskComparison]"
    """() -> how a report compares several runs of this task."""
    predict: "Callable[[Path, Any, Sequence[str], Path, PredictOptions, Say], Path] | None" = None
    """(run folder, config, image paths, output path, options, say) -> the path of the predictions."""
    export: "Callable[[Path, Any, Say], Any] | None" = None
    """(run folder, config, say) -> `export.contract.TaskGraph`: the network to export, with the checks of its graph."""
    serve: "Callable[[Path, Any, str, bool, Say], Any] | None" = None
    """(run folder, config, name, whether to index training images, say) -> `serve.models.ServedModel`."""
    load_masks: "Callable[[Path, Any], Any] | None" = None
    """(run folder, config) -> `tasks.segment.evaluate.MaskInference`, for `sightline masks --run`."""

    former_names: tuple[str, ...] = ()
    """Names of this task in recipes of earlier versions."""
    selects_epochs: bool = True
    """Whether the weights of the epoch with the best metric are kept; otherwise those of the last epoch."""
    probe_setting: str = ""
    """The recipe key of labeled data on which features are evaluated; empty if the task has none."""
    unsupported: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Commands that the task does not have, with (why, what to do instead)."""

    def supported(self, function: T | None, command: str, where: str) -> T:
        """Return `function`. If it is None, raise SightlineError with the reason from `unsupported`."""
        if function is None:
            why, cure = self.unsupported.get(command, (f"its task, {self.name}, has no {command}", ""))
            raise SightlineError(f"`sightline {command}` does not apply to this run", where=where, why=why, cure=cure)
        return function
