"""A minimal custom task, regression of one number per image: every command works, or is an error if it lacks it."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch.nn import functional

import sightline
from sightline import SightlineError
from sightline.config.checks import Rules, metric_rules, no_head_rules, whole_image_rules
from sightline.config.schema import Config, Train
from sightline.data.augment.batch import evaluation_transform, training_augmentation
from sightline.data.image_cache import decode
from sightline.data.types import Batch
from sightline.engine import parts as made
from sightline.engine.device import pick_device, pick_precision
from sightline.engine.evaluate import evaluate
from sightline.engine.parts import Parts, TraceSpec
from sightline.engine.state import Training
from sightline.insight.curves import history
from sightline.insight.figures import draw_preview
from sightline.models import build_model, forward_flops, parameter_count
from sightline.report.compare.kinds import TaskComparison
from sightline.report.html import element
from sightline.report.run import RunFiles
from sightline.report.sections import Content, fact_cards
from sightline.runs.checkpoint import load_model
from sightline.runs.run_folder import shipped_checkpoints
from sightline.stats.intervals import bootstrap_interval
from sightline.tasks import TASKS
from sightline.tasks.classify.build import open_labeled
from sightline.tasks.contract import Metric, Say, Task

pytestmark = pytest.mark.usefixtures("quick_figures")


class RegressConfig(Config):
    task: Literal["regress"] = "regress"
    train: Train = Train(best_metric="mean_absolute_error")

    def rules(self) -> Rules:
        return metric_rules(self, "mean_absolute_error", "loss") | whole_image_rules(self) | no_head_rules(self)


class RegressLearner:
    """Predicts the index of an image's class as a number."""

    def __init__(self, config: Config, model: Any, augment: Callable[..., torch.Tensor], transform: Callable[..., Any]):
        self.config, self.model, self.augment, self.transform = config, model, augment, transform

    def prepare(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        assert batch.labels is not None
        images = self.augment(batch.images, batch.samples, self.config.train.seed, batch.epoch)
        return images[batch.overlap :], batch.labels[batch.overlap :].float()

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        images, targets = self.prepare(batch)
        return {"loss": functional.mse_loss(self.model(images)[:, 0].float(), targets)}

    def after_step(self, step: int, total_steps: int) -> None: ...

    def metrics(self, batches: Iterable[Batch]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        pairs = [(self.model(self.transform(b.images))[:, 0].float(), b.labels) for b in batches]
        errors = torch.cat([(predicted - truth).abs() for predicted, truth in pairs if truth is not None])
        numbers = {"loss": float((errors**2).mean()), "mean_absolute_error": float(errors.mean())}
        return numbers, {"errors": errors.numpy()}

    def parameters(self) -> Any:
        return self.model


def build(config: Any, say: Say, precision: str, fresh: bool) -> Parts:
    source, device, side = open_labeled(config, say), pick_device(config.train.device), config.data.size
    torch.manual_seed(config.train.seed)
    model = build_model(config.model.name, 1, side, dict(config.model.args))
    train, val = made.training_images(config, source, say), decode(source, "val", side, config.data, say)
    mean, std = made.normalization(config, train)
    transform = evaluation_transform(side, mean, std)
    flops = made.flops_by_side(config, partial(forward_flops, model))
    facts = {"parameters": parameter_count(model), "train_flops": 0.0, "weights": None}
    facts |= {"data": made.describe_data(source, train, val)}
    model.to(device).to(memory_format=torch.channels_last)
    learner = RegressLearner(config, model, training_augmentation(config.augment, side, mean, std), transform)
    return Parts(
        *(device, pick_precision(precision or config.train.precision, device), source, train, val, model, learner),
        *(made.describe_model(config, train, val, mean, std), np.zeros(0, np.int64), (mean, std), flops, facts),
        trace_spec=TraceSpec((3, side, side), lambda net, images: {"number": net(images)}),
    )


def results(training: Training) -> tuple[dict[str, Any], str]:
    parts, (shipped,) = training.parts, shipped_checkpoints(training.folder)
    parts.learner.parameters().load_state_dict(load_model(shipped)[0])
    numbers, arrays = evaluate(parts.learner, parts.val, 64, parts.device, parts.dtype)
    edges = {"mean_absolute_error_interval": list(bootstrap_interval(arrays["errors"], seed=0))}
    return numbers | edges, f"mean absolute error {numbers['mean_absolute_error']:.3f}"


def preview(training: Training, batch: Batch) -> Any:
    learner: Any = training.parts.learner
    images, targets = learner.prepare(batch)
    names = tuple(map(str, range(10)))
    return draw_preview(images.numpy(), *training.parts.normalization, targets.long().numpy(), names)


def evaluate_run(folder: Path, config: Any, data: str, split: str | None, say: Say) -> dict[str, Any]:
    parts = build(config, say, "fp32", False)
    parts.learner.parameters().load_state_dict(load_model(shipped_checkpoints(folder)[0])[0])
    return evaluate(parts.learner, parts.val, 64, parts.device, parts.dtype)[0]


def content(files: RunFiles, metrics: Mapping[str, Metric], watched: bool) -> Content:
    past = history(files.records)
    final = past.evaluation["mean_absolute_error"][-1]
    sections: Any = [("Summary", [element("p", f"The mean error is {final:.3f}."), fact_cards(files, past, [])])]
    return Content(files, sections, {}, past, "")


REGRESS = Task(
    name="regress",
    does="predicts a number for each image",
    config=RegressConfig,
    metrics={"mean_absolute_error": Metric("Mean absolute error", True), "loss": Metric("Validation loss", True)},
    learns_from="labels",
    predicts="number",
    check=lambda config: None,
    open=open_labeled,
    build=build,
    preview=preview,
    results=results,
    evaluate=evaluate_run,
    report=content,
    comparison=lambda: TaskComparison(
        field="mean_absolute_error",
        title="Mean absolute error",
        image_results=lambda files: (None, "has no table of predictions", ""),
        no_pairs="Runs of this task are not compared image by image.",
    ),
    unsupported={"predict": ("there is no table for numbers per image", "use sightline evaluate")},
)
SETTINGS = {
    **{"task": "regress", "train.best_metric": "mean_absolute_error", "model.name": "small_cnn", "data.size": 16},
    **{"train.epochs": 2, "train.precision": "fp32", "report.samples": 0, "augment.normalize": "half"},
    **{"optim.name": "adamw", "optim.lr": 3e-3, "train.batch_size": 16},
}


@pytest.fixture(scope="module")
def regress() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "regress", REGRESS)
        yield


@pytest.fixture(scope="module")
def run(regress: None, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> sightline.Run:
    from config_toys import configured

    return sightline.train(configured(SETTINGS), photos, out=tmp_path_factory.mktemp("regress") / "run", quiet=True)


def test_a_custom_task_trains_with_its_own_configuration(run: sightline.Run) -> None:
    assert run.metrics["mean_absolute_error_interval"][0] < run.metrics["mean_absolute_error"] < 3
    text = (run.path / "recipe.yaml").read_text()
    assert "task: regress" in text and "pretrain:" not in text


def test_a_custom_task_is_evaluated_reported_and_resumed(run: sightline.Run, tmp_path: Path) -> None:
    numbers = sightline.evaluate(run.path, quiet=True)
    assert numbers["mean_absolute_error"] == pytest.approx(run.metrics["mean_absolute_error"], rel=1e-5)
    page = sightline.report(run.path).read_text(encoding="utf-8")
    assert "The mean error is" in page and "Architecture" in page
    more = sightline.resume(run.path, quiet=True, **{"train.epochs": 3})
    assert more.metrics["epoch"] == 3
    again = sightline.train(str(run.path / "recipe.yaml"), out=tmp_path / "again", quiet=True, **{"train.epochs": 2})
    both = sightline.report(again.path, run.path, out=tmp_path / "compared", quiet=True).read_text(encoding="utf-8")
    assert "Mean absolute error" in both and "not compared image by image" in both


@pytest.mark.parametrize("command", ["predict", "export", "serve"])
def test_commands_that_a_task_lacks_are_errors(run: sightline.Run, photos: Path, tmp_path: Path, command: str) -> None:
    arguments: dict[str, Any] = {"predict": {"out": tmp_path / "p.csv"}, "export": {"out": tmp_path / "m.onnx"}}
    with pytest.raises(SightlineError, match=f"`sightline {command}` does not apply to this run") as caught:
        more = [photos] if command == "predict" else []
        getattr(sightline, command)(run.path, *more, quiet=True, **arguments.get(command, {}))
    assert caught.value.why


def test_facts_of_the_custom_task(run: sightline.Run) -> None:
    assert TASKS["regress"].learns_from == "labels" and not TASKS["regress"].probe_setting
