"""What a task declares.

A task is a folder. Its `__init__.py` declares one `Task`: plain facts, its configuration, and three groups of functions
that are loaded when they are first needed, because training needs torch and a report does not. Everything outside of
`tasks/` and `recipes/` asks this object and never compares a task's name.

A command that a task does not have is None, with a sentence in `Task.unsupported`; `supported` raises it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..errors import SightlineError

if TYPE_CHECKING:
    from ..config.schema import Config
    from ..engine.state import TrainingFunctions
    from ..inference.options import PredictOptions
    from ..report.compare.kinds import TaskComparison
    from ..report.run import RunFiles
    from ..report.sections import Content

T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Metric:
    """A number of the validation by which epochs, trials and runs are ranked. title: as a heading has it."""

    title: str
    lower_is_better: bool = False

    def better(self, score: float, best: float | None) -> bool:
        """Whether `score` beats `best`, if there is one."""
        return best is None or (score < best if self.lower_is_better else score > best)


@dataclass(frozen=True)
class UseFunctions:
    """Everything that is done with the weights of a run.

    evaluate: (run folder, configuration, path of other data or "", split or None, say) -> numbers with intervals.
    load_masks: (run folder, configuration) -> the network of a run that predicts masks.
    predict: (run folder, configuration, images, out, options, say) -> the path that was written.
    """

    evaluate: "Callable[[Path, Any, str, str | None, Say], dict[str, Any]]"
    load_masks: "Callable[[Path, Any], Any] | None" = None
    predict: "Callable[[Path, Any, Sequence[str], Path, PredictOptions, Say], Path] | None" = None


@dataclass(frozen=True)
class ReportFunctions:
    """The pages of runs, from their files alone. content: (files, the task's metrics, whether it is training) -> the
    task's sections and figures. comparison: how several runs are compared."""

    content: "Callable[[RunFiles, Mapping[str, Metric], bool], Content]"
    comparison: "TaskComparison"


@dataclass(frozen=True)
class Task:
    """What the rest of the program knows of a task.

    name: as recipes have it; former_names: as earlier versions had it. does: what its runs do, for messages
    ("classifies images"). config: its configuration, with its own sections, checks and defaults. metrics: those that
    rank epochs and trials, the default first. learns_from: what the training images come with. predicts: what a run
    predicts for an image. training, use, report: load the three groups of functions. export: loads (run folder,
    configuration, say) -> export.contract.TaskGraph. serve: loads (run folder, configuration, name, whether to index
    training images, say) -> serve.models.ServedModel. selects_epochs: whether the best epoch is selected by a metric;
    else the newest weights are shipped. probe_setting: the setting that names labeled data to measure features on, if
    any. unsupported: command -> (why the task does not have it, what helps).
    """

    name: str
    does: str
    config: "type[Config]"
    metrics: Mapping[str, Metric]
    learns_from: Literal["labels", "masks", "nothing"]
    predicts: Literal["label", "labels", "mask", "number", "features"]
    training: "Callable[[], TrainingFunctions]"
    use: Callable[[], UseFunctions]
    report: Callable[[], ReportFunctions]
    export: "Callable[[], Callable[[Path, Any, Say], Any]] | None" = None
    serve: "Callable[[], Callable[[Path, Any, str, bool, Say], Any]] | None" = None
    former_names: tuple[str, ...] = ()
    selects_epochs: bool = True
    probe_setting: str = ""
    unsupported: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def supported(self, function: T | None, command: str, where: str) -> T:
        """`function`; SightlineError with the task's own sentence where it does not have the command."""
        if function is None:
            why, cure = self.unsupported.get(command, (f"its task, {self.name}, has no {command}", ""))
            raise SightlineError(f"`sightline {command}` does not apply to this run", where=where, why=why, cure=cure)
        return function
