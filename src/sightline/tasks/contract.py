"""The contract of a task: the facts and functions with which every command trains, uses and reports runs of the task.

A task is a kind of training, such as classification. It is a folder in `tasks/`, whose `__init__.py` creates one object
of class `Task`; `TASKS` in `tasks/__init__.py` lists these objects. Code outside `tasks/` and `recipes/` calls the
functions of this object and never compares a task's name.

Functions are declared with `lazy`, so that listing recipes or parsing the command line imports neither torch nor
matplotlib. docs/extend.md declares a task in one file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..errors import SightlineError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from ..config.schema import Config
    from ..data.types import Batch, Decoded, Source
    from ..engine.parts import Parts
    from ..engine.state import Training
    from ..inference.inputs import PredictOptions
    from ..inference.loaded import Loaded
    from ..report.compare.kinds import TaskComparison
    from ..report.run import RunFiles
    from ..report.sections import Content

T = TypeVar("T")
Say = Callable[[str], None]
"""A function that prints one line for the user."""


def lazy(path: str) -> Callable[..., Any]:
    """Return a function that imports `package.module:name` when it is called, and calls `name` with its arguments."""

    def call(*arguments: Any) -> Any:
        return resolve_name(path)(*arguments)

    return call


@dataclass(frozen=True)
class Metric:
    """A validation metric by which epochs, trials and runs are ranked. title: the name of the metric as a heading.
    percent: whether it is a share that is shown in percent. meaning: a sentence for the reference."""

    title: str
    lower_is_better: bool = False
    percent: bool = True
    meaning: str = ""

    def better(self, score: float, best: float | None) -> bool:
        """Whether `score` is better than `best`; True if `best` is None, that is, for the first score."""
        return best is None or (score < best if self.lower_is_better else score > best)


@dataclass(frozen=True)
class Task:
    """A task: first facts, then functions. The argument `config` of the functions is an instance of the task's
    configuration class.

    A function with the default None is optional: the task then lacks the command, and `unsupported` has the reason.
    """

    name: str
    """The value of `task` in a recipe."""
    does: str
    """What runs of the task do, in the third person, for messages: "classifies images"."""
    config: "type[Config]"
    """The configuration class: the sections that all tasks have and those of this task, with defaults and checks."""
    metrics: Mapping[str, Metric]
    """The validation metrics that can rank epochs and trials, by their key in metrics.jsonl. The first is the
    default."""
    learns_from: Literal["labels", "label sets", "numbers", "masks", "nothing"]
    """The annotation that training images need."""
    predicts: Literal["label", "labels", "mask", "number", "features"]
    """What a run predicts for one image: a class, several classes, a mask, a number, or features."""

    check: "Callable[[Any], None]"
    """(config): raise SightlineError for settings that are invalid for any data."""
    open: "Callable[[Any, Say], Source]"
    """(config, say) -> the file names, labels and splits of the data, without decoding images."""
    build: "Callable[[Any, Say, str, bool], Parts]"
    """(config, say, precision, fresh) -> data, model and learner of a run; for the arguments see
    `engine.parts.build`. The learner computes the loss and the metrics, see `engine.parts.Learner`."""
    preview: "Callable[[Training, Batch], Figure]"
    """(training, batch) -> a figure of a training batch after augmentation."""
    results: "Callable[[Training], tuple[dict[str, Any], str]]"
    """(training) -> (the final metrics with their intervals, a sentence on the result). Also writes the predictions
    and the files that the report needs."""
    evaluate: "Callable[[Path, Any, str, str | None, Say], dict[str, Any]]"
    """(run folder, config, path of data other than the run's own or "", split or None, say) -> metrics with their
    intervals. The config has the settings for reading other data."""
    report: "Callable[[RunFiles, Mapping[str, Metric], bool], Content]"
    """(files of a run, metrics, whether the run is still training) -> sections and figures of the run's page."""
    comparison: "Callable[[], TaskComparison]"
    """() -> how several runs of this task are compared in a report."""
    image_scores: "Callable[[Path, str], tuple[tuple[str, ...], np.ndarray, str]] | None" = None
    """(run folder, split) -> (names of its images; float64 [N], a value of each, whose mean is the default metric; why
    no interval can be given, or ""): what `sightline transfer` compares. Raises one of `report.run.UNREADABLE`."""
    predict: "Callable[[Path, Any, Sequence[str], Path, PredictOptions, Say], Path] | None" = None
    """(run folder, config, image paths, output path, options, say) -> the path of the predictions."""
    seconds_per_image: "Callable[[Any, Source], tuple[float, float]] | None" = None
    """(config, data) -> measured seconds per image of the network's forward pass, and of a training step, on this
    machine. `sightline start` plans its steps by them."""
    prelabel: "Callable[[Path, Any, Sequence[str], Path, PredictOptions, Say], Path] | None" = None
    """As `predict`; writes a file for annotation programs in the format of the options."""
    baselines: "Callable[[Training, float], tuple[dict[str, float], list[str]]] | None" = None
    """(training, floating-point operations of the training) -> (scores that need no training by name, see
    `stats.baselines.TITLES`, notes on them); they stand beside the final score of a run."""
    load: "Callable[[Path, Any], Loaded] | None" = None
    """(run folder, config) -> the trained model as an object for Python; `sightline.load` returns it."""
    export: "Callable[[Path, Any, Say], Any] | None" = None
    """(run folder, config, say) -> `export.contract.TaskGraph`: the network to export, and the data for its check."""
    serve: "Callable[[Path, Any, str, bool, Say], Any] | None" = None
    """(run folder, config, name, whether to index training images, say) -> `serve.models.ServedModel`."""
    losses: "Callable[[], dict[str, Callable[..., Any]]] | None" = None
    """() -> the dict of the task's losses, functions (logits, targets, weights=None) -> scalar; a file of the user's
    code may add to it."""
    check_labels: "Callable[[Mapping[str, np.ndarray], Sequence[str]], list[Any]] | None" = None
    """(labels by split as of `data.types.Items`, classes) -> list of `doctor.findings.Finding` on the labels."""
    features: "Callable[[Any, Source, Say], dict[str, tuple[Decoded, np.ndarray]]] | None" = None
    """(config, data, say) -> decoded images and features float32 [N, D] of each split, by the network and the weights
    in the config, from the cache folder if they are there. The data need no labels."""
    held_out_probabilities: "Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None" = None
    """(features [N, D], class indices [N], groups [N]) -> probabilities [N, K] of the classes of each image, by a model
    that is fitted to the images of other groups."""
    load_masks: "Callable[[Path, Any], Any] | None" = None
    """(run folder, config) -> the trained segmenter, `tasks.segment.evaluate.MaskInference`, whose masks `sightline
    masks --run` refines."""

    former_names: tuple[str, ...] = ()
    """Names of this task in recipes of earlier versions."""
    upgrade: "Callable[[Mapping[str, Any], str], tuple[Mapping[str, Any], str]] | None" = None
    """(nested values of a recipe of any version, their origin) -> (values of this version, a note on what was replaced
    or "")."""
    evaluated: "Callable[[Any, Source], Source] | None" = None
    """(config, data of `open`) -> the data whose split `val` ranks trials, if these may be others. Raises
    SightlineError if no data rank them."""
    selects_epochs: bool = True
    """Whether a run keeps the weights of the epoch with the best metric; otherwise it keeps those of the last epoch."""
    probe_setting: str = ""
    """The recipe key of the probe data: labeled data on which features are evaluated. "" if the task has none."""
    unsupported: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """The commands that the task lacks: command -> (why, what to do instead)."""

    def supported(self, function: T | None, command: str, where: str) -> T:
        """Return `function`. If it is None, raise SightlineError with the reason from `unsupported`."""
        if function is None:
            why, cure = self.unsupported.get(command, (f"its task, {self.name}, has no {command}", ""))
            raise SightlineError(f"`sightline {command}` does not apply to this run", where=where, why=why, cure=cure)
        return function
