"""Tasks that predict one number for each image. A file of the user's adds a learner (loss, metrics); docs/extend.md."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ...config.schema import Config
from ...data.label_arrays import are_numbers, label_texts
from ...data.sources.leakage import reject_leaks
from ...data.sources.open import open_source
from ...data.types import Batch, Decoded, Source
from ...engine.evaluate import evaluate as evaluate_learner
from ...engine.parts import Arrays, Parts
from ...engine.state import Training
from ...errors import SightlineError
from ...inference.evaluation import log_test_evaluation, training_names
from ...inference.inputs import PredictOptions
from ...inference.loaded import LoadedPredictor
from ...inference.predictor import Decision, Predictor
from ...inference.tables import predict_table
from ...insight.curves import MetricCurve, history, number
from ...insight.figures import draw_preview
from ...report.compare.kinds import TaskComparison
from ...report.drawing import draw_all, plan_curves
from ...report.formatting import section, status
from ...report.html import Child, element
from ...report.run import RunFiles
from ...report.sections import Content, curves, fact_cards
from ...runs import run_folder
from ...runs.atomic import atomic_write
from ...runs.checkpoint import load_model
from ...runs.csv_io import csv_text
from ...stats.groups import Groups, ids_in, said, write_groups
from ...stats.intervals import bracketed, effective_images, mean_interval
from ..contract import Metric, Say, Task
from .build import build_for_inference, build_parts, check_settings
from .evaluate import open_split
from .learner import ImageLearner
from .predict import predictor

CURVES = "Training loss is measured on augmented images while the weights change: compare the shapes of the losses."
UNSUPPORTED = {
    "export": ("exported graphs return probabilities or masks", "use --format safetensors, which has the weights"),
    "serve": (
        "the web page shows probabilities or masks",
        "predict images: sightline predict RUN IMAGES --out FILE.csv",
    ),
}


@dataclass(frozen=True)
class NumberFunctions:
    """The functions of a task that predicts one number; see `number_task` for the fields, `Task` for the functions."""

    learner: type[ImageLearner]
    output: str
    metrics: Mapping[str, Metric]
    means: Mapping[str, str]
    baseline: Callable[[np.ndarray, np.ndarray], dict[str, float]]

    def open(self, config: Config, say: Say) -> Source:
        """List the images and their numbers; SightlineError if the images have none."""
        source = open_source(config.data, config.data.split_seed)
        for note in source.notes:
            say(note)
        source = reject_leaks(source, config.data, say)
        if any(not are_numbers(source.splits[split].labels) for split in ("train", "val") if split in source.splits):
            cure = "give a table with the columns filename and label: --data TABLE.csv"
            raise SightlineError("the images have no numbers", where=source.path, cure=cure)
        return source

    def build(self, config: Config, say: Say, precision: str, fresh: bool) -> Parts:
        return build_parts(self.learner, config, self.open(config, say), 1, say, precision, fresh)

    def preview(self, training: Training, batch: Batch) -> Figure:
        """Draw the images of a training batch after augmentation, with their numbers."""
        learner: Any = training.parts.learner
        images, targets = learner.prepare(batch)
        texts = label_texts(targets.float().cpu().numpy().reshape(-1), ())
        pixels = images.float().cpu().numpy()
        parts = training.parts
        return draw_preview(pixels, *parts.normalization, np.arange(len(texts)), texts, parts.train.channels)

    def results(self, training: Training) -> tuple[dict[str, Any], str]:
        """The metrics with their intervals and those of the baseline, and a sentence. Writes predictions/val.csv."""
        parts, config = training.parts, training.config
        learner: Any = parts.learner
        checkpoint, size = run_folder.shipped_checkpoints(training.folder)[0], config.train.eval_batch_size
        learner.parameters().load_state_dict(load_model(checkpoint)[0])
        numbers, arrays = evaluate_learner(learner, parts.val, size, parts.device)
        groups = write_groups(training.folder, "val", parts.val, config.data, parts.train.names)
        intervals = self.intervals(arrays, groups)
        self.write_predictions(training.folder, "val", parts.val, arrays)
        assert parts.train.labels is not None and parts.val.labels is not None
        trivial = self.baseline(parts.train.labels, parts.val.labels)
        name, metric = next(iter(self.metrics.items()))
        text = f"{metric.title.lower()} {numbers[name]:.4g}"
        if name in self.means:
            text += bracketed(intervals[f"{name}_interval"]) + said(groups, intervals)
        others = "".join(f"; {words(key)} {value:.4g}" for key, value in trivial.items())
        final: dict[str, Any] = numbers | intervals | trivial
        if parts.dtype == torch.bfloat16:
            half = evaluate_learner(learner, parts.val, size, parts.device, parts.dtype)[1]["predictions"]
            final["bfloat16"] = {"largest_change": float(np.abs(half - arrays["predictions"]).max())}
        return final, text + others

    def intervals(self, arrays: Arrays, groups: Groups | None) -> dict[str, Any]:
        """95 % intervals [low, high] of the metrics that are means over the images, and the facts of their groups."""
        ids = ids_in(groups)
        edges = {f"{name}_interval": list(mean_interval(arrays[key], ids)) for name, key in self.means.items()}
        values = next((arrays[key] for key in self.means.values()), np.zeros(0))
        return edges | (groups.facts(effective_images(values, ids)) if groups and len(values) else {})

    def write_predictions(self, folder: Path, split: str, decoded: Decoded, arrays: Arrays) -> None:
        """Write predictions/SPLIT.csv: filename, the predicted number, and the true one."""
        assert decoded.labels is not None
        values = (label_texts(each, ()) for each in (arrays["predictions"], decoded.labels))
        rows = [("filename", self.output, "truth"), *zip(decoded.names, *values, strict=True)]
        atomic_write(folder / "predictions" / f"{split}.csv", csv_text(rows))

    def evaluate(self, folder: Path, config: Config, data: str, split: str | None, say: Say) -> dict[str, Any]:
        source, name, decoded, tests = open_split(folder, config, data, split, say)
        if decoded.labels is None:
            cure = "use a table with numbers: --data TABLE.csv; or predict: sightline predict RUN IMAGES --out FILE.csv"
            raise SightlineError("evaluation needs labels", where=source.path, cure=cure)
        parts = build_for_inference(self.learner, folder, config, 1)
        parts.learner.model.load_state_dict(load_model(run_folder.shipped_checkpoints(folder)[0])[0])
        size = config.train.eval_batch_size
        numbers, arrays = evaluate_learner(parts.learner, decoded, size, parts.device)
        groups = write_groups(None if data else folder, name, decoded, config.data, training_names(folder))
        found = numbers | self.intervals(arrays, groups)
        looks = {}
        if tests:
            moment = parts.step, parts.epoch
            looks = log_test_evaluation(folder, moment, name, source, found, say, decoded)
        if not data:
            self.write_predictions(folder, name, decoded, arrays)
        return {"split": name, "images": len(decoded.names), **found, **looks}

    def predict(
        self, folder: Path, config: Config, inputs: Sequence[str], out: Path, options: PredictOptions, say: Say
    ) -> Path:
        """Write a table with the columns filename, the predicted number, and error."""
        load = partial(self.predictor, folder, config, options.features)
        return predict_table(folder, config, inputs, out, options, load, say)

    def predictor(self, folder: Path, config: Config, features: bool) -> Predictor:
        """Load the final weights of a run."""
        found = predictor(self.learner, folder, config, features, outputs=1)
        model: Any = found.models[0]
        learner = self.learner(config=config, model=model, outputs=1, augment=None, transform=found.transform)
        decision = Decision(learner.predicted, learner.mean_output, None)
        return replace(found, classes=(self.output,), decision=decision)

    def load(self, folder: Path, config: Config) -> LoadedPredictor:
        return LoadedPredictor(folder, config, self.predictor(folder, config, features=False))

    def report(self, files: RunFiles, metrics: Mapping[str, Metric], watched: bool) -> Content:
        """The page of a run: a summary with the final metrics, and curves."""
        past = history(files.records)
        drawn = [
            MetricCurve(key, metric.title, metric.percent, digits=4) for key, metric in metrics.items() if key != "loss"
        ]
        figures = draw_all(plan_curves(past, drawn))
        done = files.end if past.finished else {}
        model, counts = section(files.recipe, "model"), section(section(files.provenance, "data"), "counts")
        many = number(counts.get("train"), 0)
        lead = (
            f"{model.get('name', 'A network')}, trained on {many:,.0f} images to predict a number, is {status(past)}."
        )
        summary: list[Child] = [element("p", lead, class_="lead"), fact_cards(files, past, self.facts(done))]
        sections = [("Summary", summary), ("Curves", curves(figures, past, drawn, CURVES))]
        return Content(files, sections, figures, past, "")

    def facts(self, done: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        """(title, value, note) of each final metric; done: the last record of the log, or {}."""
        trivial = [key for key in done if key.startswith("baseline")]
        titles = {key: metric.title for key, metric in self.metrics.items()} | {key: words(key) for key in trivial}
        facts = []
        for key, title in titles.items():
            low, high = done.get(f"{key}_interval") or (None, None)
            note = "" if low is None or high is None else f"95% interval {number(low):.4g} to {number(high):.4g}"
            facts += [(title[0].upper() + title[1:], f"{number(done[key]):.4g}", note)] if key in done else []
        return facts

    def comparison(self) -> TaskComparison:
        name, metric = next(iter(self.metrics.items()))
        why = "Runs that predict numbers are compared by their metrics, not image by image."
        return TaskComparison(
            name,
            metric.title,
            lambda files: (None, "predicts numbers", ""),
            no_pairs=why,
            percent=metric.percent,
            lower_is_better=metric.lower_is_better,
        )


def words(key: str) -> str:
    """The name of a metric in words."""
    return key.replace("_", " ")


def no_baseline(train: np.ndarray, val: np.ndarray) -> dict[str, float]:
    """No metrics of a constant prediction."""
    return {}


def check(config: Config) -> None:
    """Raise SightlineError for settings that are invalid for any data."""
    check_settings(config)
    if config.data.labels != "number":
        what, cure = "this task predicts numbers, and the labels are read as classes", "set --data.labels number"
        raise SightlineError(what, where=f"data.labels {config.data.labels}", cure=cure)
    if config.loss.name != type(config)().loss.name:
        cure = "leave out --loss.name; the loss is in the learner of the task"
        raise SightlineError("this task has no losses to choose from", where=f"loss.name {config.loss.name}", cure=cure)
    if config.train.ensemble or config.loss.class_weights != "none":
        where = "train.ensemble" if config.train.ensemble else "loss.class_weights"
        cure = "set --train.ensemble 0 and --loss.class_weights none"
        raise SightlineError("this setting is not available for a task that predicts numbers", where=where, cure=cure)


def number_task(
    name: str,
    does: str,
    config: type[Config],
    metrics: Mapping[str, Metric],
    learner: type[ImageLearner],
    output: str = "number",
    means: Mapping[str, str] | None = None,
    baseline: Callable[[np.ndarray, np.ndarray], dict[str, float]] = no_baseline,
) -> Task:
    """Declare a task that predicts one number for each image.

    name, does, config, metrics: as of `Task`. learner: its method `numbers` returns the metrics, and arrays of which
    `predictions` has the predicted number of each image, float [N]. output: the column of the predicted number in
    tables. means: the metrics that are means over the images, with the array of which they are the mean; they get
    intervals. baseline: (numbers of the training images [M], of the validation images [N]) -> metrics of a
    trivial prediction by name, which starts with `baseline`.
    """
    functions = NumberFunctions(learner, output, metrics, means or {}, baseline)
    return Task(
        name=name,
        does=does,
        config=config,
        metrics=metrics,
        learns_from="numbers",
        predicts="number",
        check=check,
        open=functions.open,
        build=functions.build,
        preview=functions.preview,
        results=functions.results,
        evaluate=functions.evaluate,
        report=functions.report,
        comparison=functions.comparison,
        predict=functions.predict,
        load=functions.load,
        unsupported=UNSUPPORTED,
    )
