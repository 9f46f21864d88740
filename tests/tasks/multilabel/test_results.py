"""The results of a run: metrics that others can recompute, thresholds, and the same numbers from `evaluate`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, precision_recall_fscore_support

import sightline
from multilabel_toys import COLORS, read_rows, write_quarters, write_table
from sightline import SightlineError
from sightline.data.image_cache import decode
from sightline.recipes import load_recipe
from sightline.runs.atomic import read_json_lines
from sightline.tasks.multilabel.build import THRESHOLDS, open_label_sets
from sightline.tasks.multilabel.metrics import choose_thresholds
from sightline.tasks.multilabel.predict import load_predictor
from sightline.tasks.multilabel.predictions import load_thresholds

CLASSES = tuple(sorted(COLORS))


def arrays(rows: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(truth bool [N, K], predicted bool [N, K], probabilities [N, K]) of rows of predictions."""
    truth, predicted = (
        np.array([[name in row[column].split(";") for name in CLASSES] for row in rows])
        for column in ("truth", "label")
    )
    return truth, predicted, np.array([[float(row[name]) for name in CLASSES] for row in rows])


def test_the_metrics_are_recomputed_with_scikit_learn(trained: Path, predictions: list[dict[str, str]]) -> None:
    truth, predicted, probabilities = arrays(predictions)
    found = sightline.Run(trained).metrics
    micro = precision_recall_fscore_support(truth, predicted, average="micro")
    assert found["mean_average_precision"] == pytest.approx(average_precision_score(truth, probabilities))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert [found[f"micro_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(micro[:3])
    assert found["exact"] == pytest.approx(accuracy_score(truth, predicted))
    assert found["baselines"]["class_frequencies"] == pytest.approx(truth.mean(0).mean())
    likelihood = np.where(truth, probabilities, 1 - probabilities)
    assert found["loss"] == pytest.approx(-np.log(likelihood).mean(), rel=1e-5)
    assert found["mean_average_precision_interval"] == [None, None] and found["classes_with_few_positives"] > 0
    for name in ("macro_f1", "micro_f1", "exact"):
        low, high = found[f"{name}_interval"]
        assert 0 <= low <= found[name] <= high <= 1


def test_the_logged_metrics_of_the_best_epoch(trained: Path, predictions: list[dict[str, str]]) -> None:
    truth, _, probabilities = arrays(predictions)
    logged = [r for r in read_json_lines(trained / "metrics.jsonl") if r["event"] == "eval"]
    best = max(logged, key=lambda record: record["mean_average_precision"])
    assert best["mean_average_precision"] == sightline.Run(trained).metrics["mean_average_precision"]
    half = f1_score(truth, probabilities > 0.5, average="macro", zero_division=0)
    assert best["macro_f1"] == pytest.approx(half)


def test_predicted_labels_are_those_at_or_above_the_thresholds(
    trained: Path, predictions: list[dict[str, str]]
) -> None:
    _, predicted, probabilities = arrays(predictions)
    thresholds = json.loads((trained / "thresholds.json").read_text())
    cuts = np.array([thresholds[name] for name in CLASSES])
    assert (predicted == (probabilities >= cuts)).all() and (cuts != 0.5).all() and len(set(cuts)) > 1
    assert any(not row["truth"] for row in predictions), "some images have no label"
    for row in predictions:
        assert float(row["confidence"]) == max(
            (float(row[name]) for name in row["label"].split(";") if name), default=0
        )


def test_the_thresholds_are_chosen_on_training_images_that_are_held_out(trained: Path, quarters: Path) -> None:
    config = load_recipe(str(trained))
    source = open_label_sets(config, lambda text: None)
    held, kept = (set(source.splits[name].names) for name in (THRESHOLDS, "train"))
    everything = {row["filename"] for row in read_rows(quarters) if row["split"] == "train"}
    assert held | kept == everything and not held & kept and 20 <= len(held) <= 26
    assert json.loads((trained / "provenance.json").read_text())["data"]["counts"]["train"] == len(kept)
    assert load_thresholds(trained, CLASSES) == pytest.approx(chosen_again(trained), abs=1e-5)


def chosen_again(run: Path) -> np.ndarray:
    """The thresholds of a run, from the predictions of its images that were held out for them."""
    config = load_recipe(str(run))
    inner = decode(open_label_sets(config, lambda text: None), THRESHOLDS, 16, config.data, lambda text: None)
    probabilities, _ = load_predictor(run, config, features=False).predict(torch.from_numpy(np.array(inner.images)))
    assert probabilities is not None and inner.labels is not None
    return choose_thresholds(probabilities, inner.labels)


@pytest.mark.parametrize("frozen", [False, True])
def test_thresholds_with_fewer_validation_images_than_are_held_out(
    train_with: Callable[..., sightline.Run], tmp_path: Path, frozen: bool
) -> None:
    data = write_quarters(tmp_path / "data", train=40, val=8)
    settings = {"model.freeze": frozen, "augment.horizontal_flip": 0.0, "report.samples": 8}
    run = train_with(data, **settings).path
    assert load_thresholds(run, CLASSES) == pytest.approx(chosen_again(run), abs=1e-5)


def test_evaluate_repeats_the_metrics_and_the_predictions(copied: Path) -> None:
    path = copied / "predictions" / "val.csv"
    before = path.read_bytes()
    path.unlink()
    found, final = sightline.evaluate(copied, quiet=True), sightline.Run(copied).metrics
    assert path.read_bytes() == before
    names = [name for name in found if name not in ("split", "images")]
    assert len(names) > 14 and {name: found[name] for name in names} == {name: final[name] for name in names}


def test_evaluate_on_other_data_and_on_a_test_split(copied: Path, tmp_path: Path) -> None:
    other = write_quarters(tmp_path / "other", train=0, val=0, test=20)
    found = sightline.evaluate(copied, data=other, quiet=True)
    assert found["split"] == "test" and found["images"] == 20 and 0 < found["mean_average_precision"] <= 1
    rows = [(row["filename"], row["label"].split(";"), "test") for row in read_rows(other) if row["label"] == "blue"]
    some = sightline.evaluate(
        copied, data=write_table(tmp_path / "other", [*rows, ("test/20000.png", ["red", "blue"], "test")]), quiet=True
    )
    assert some["classes_without_positive"] == 2, "classes that the other data lack are left out"


@pytest.mark.parametrize(
    ("rows", "what", "cure"),
    [
        ([(["red", "purple"], "val"), (["red"], "val")], "classes of the data differ", "rename or remove those labels"),
        ([(["red"], "val"), (["blue"], "val")], "needs images with label sets", "cat;dog"),
    ],
)
def test_other_data_that_do_not_fit_are_errors(trained: Path, tmp_path: Path, rows, what: str, cure: str) -> None:
    write_quarters(tmp_path / "other", train=0, val=2)
    data = write_table(tmp_path / "other", [(f"val/{10_000 + i}.png", *row) for i, row in enumerate(rows)])
    with pytest.raises(SightlineError, match=what) as caught:
        sightline.evaluate(trained, data=data, quiet=True)
    assert cure in caught.value.cure


def test_own_data_that_now_have_one_label_per_image_are_an_error(copied: Path, quarters: Path, tmp_path: Path) -> None:
    shutil.copytree(quarters.parent, tmp_path / "data")
    recipe = copied / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(quarters), str(tmp_path / "data" / "labels.csv")))
    assert sightline.evaluate(copied, quiet=True)["images"] == 24
    rows = read_rows(quarters)
    write_table(tmp_path / "data", [(row["filename"], [CLASSES[i % 2]], row["split"]) for i, row in enumerate(rows)])
    for use in (sightline.evaluate, sightline.export):
        with pytest.raises(SightlineError, match="every image has one label"):
            use(copied, quiet=True)


HALF = '{"blue": 0.5, "green": 0.5, "red": 0.5, '


@pytest.mark.parametrize(
    "text", ["{", "[0.5]", '{"blue": 0.5}', *(HALF + end for end in ('"x": 0.5}', '"white": 1.5}', '"white": "0.5"}'))]
)
def test_damaged_thresholds_are_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "thresholds.json").write_text(text)
    with pytest.raises(SightlineError, match="do not fit the classes") as caught:
        load_thresholds(tmp_path, CLASSES)
    assert f"rm {tmp_path}/thresholds.json" in caught.value.cure
    (tmp_path / "thresholds.json").unlink()
    assert load_thresholds(tmp_path, CLASSES).tolist() == [0.5] * 4


def test_commands_that_use_damaged_thresholds_stop(copied: Path, quarters: Path, tmp_path: Path) -> None:
    (copied / "thresholds.json").write_text('{"cat": 0.5}')
    for use in (
        lambda: sightline.evaluate(copied, quiet=True),
        lambda: sightline.predict(copied, quarters.parent / "val", out=tmp_path / "p.csv", quiet=True),
        lambda: sightline.export(copied, quiet=True),
    ):
        with pytest.raises(SightlineError, match="do not fit the classes"):
            use()


def test_the_newest_weights_are_kept_without_a_choice(train_with: Callable[..., sightline.Run]) -> None:
    run = train_with(**{"train.epochs": 3, "train.best_metric": "epoch"})
    last, best = ((run.path / "checkpoints" / name / "model.safetensors").read_bytes() for name in ("last", "best"))
    assert last == best and not {"best_epoch", "selection"} & {*run.metrics}
    assert "choice of the best epoch" not in run.report.read_text(encoding="utf-8")
