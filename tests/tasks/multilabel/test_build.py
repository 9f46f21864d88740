"""Data that fit and data that do not, settings, and the training options that other tasks have."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import sightline
from config_toys import configured
from multilabel_toys import SETTINGS, read_rows, square_image, write_quarters, write_table
from sightline import SightlineError
from sightline.config.schema import Config
from sightline.tasks.multilabel.build import THRESHOLDS, open_label_sets

Train = Callable[..., sightline.Run]
NAMES = ("red", "green", "blue")


def images(folder: Path, count: int = 12) -> list[str]:
    """Names of images, half of them of train/."""
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
    names = [f"{'train' if number % 2 == 0 else 'val'}/{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        square_image([NAMES[number % 3]], number).save(folder / name)
    return names


def table(folder: Path, *sets: str) -> Path:
    """labels.csv, in which the images have these label sets in turn, in train and in val."""
    rows = [(name, sets[i // 2 % len(sets)].split(";"), name.split("/")[0]) for i, name in enumerate(images(folder))]
    return write_table(folder, rows)


def refused(data: Path, **settings: object) -> SightlineError:
    """The error that opening these data for a multi-label run raises."""
    config = configured(SETTINGS | {"data.path": str(data)} | settings)
    with pytest.raises(SightlineError) as caught:
        open_label_sets(config, lambda text: None)
    assert caught.value.where and caught.value.cure
    return caught.value


def test_a_table_with_one_label_per_image_is_for_another_recipe(tmp_path: Path) -> None:
    error = refused(table(tmp_path, "red", "green"))
    assert "every image has one label" in error.what and "photos_finetune" in error.cure
    assert "--data.separator" in error.cure


def test_class_folders_are_for_another_recipe(photos: Path) -> None:
    error = refused(photos)
    assert "every image has one label" in error.what and "photos_finetune" in error.cure


def test_a_folder_without_labels_needs_a_table(tmp_path: Path) -> None:
    images(tmp_path)
    error = refused(tmp_path / "train")
    assert "no labels" in error.what and "cat;dog" in error.cure


def test_label_sets_are_not_for_a_classifier(quarters: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="the data have label sets") as caught:
        sightline.train("photos_scratch", quarters, out=tmp_path / "run", quiet=True)
    assert "use the recipe multilabel_finetune or multilabel_scratch" in caught.value.cure
    assert "photos_scratch is for one label per image" in caught.value.why


def test_a_wrong_separator(quarters: Path) -> None:
    error = refused(quarters, **{"data.separator": "|"})
    assert "the separator '|' occurs in no label" in error.what and "--data.separator ';'" in error.cure


def test_a_one_hot_column_of_words(tmp_path: Path) -> None:
    lines = [f"{name},1,0,{'ja' if i % 2 else 'nein'}" for i, name in enumerate(images(tmp_path))]
    (tmp_path / "labels.csv").write_text("\n".join(["filename,red,green,blue", *lines]) + "\n")
    error = refused(tmp_path / "labels.csv")
    assert "column 'blue': 12 cells not 0 or 1, first 'nein' in line 2" in error.why


def test_a_class_that_train_lacks(tmp_path: Path) -> None:
    rows = [(n, ["red", "green"] if i else ["red", "blue"], n.split("/")[0]) for i, n in enumerate(images(tmp_path))]
    rows[1] = (rows[1][0], ["red", "purple"], "val")
    error = refused(write_table(tmp_path, rows))
    assert "the val split has 1 class without training images" in error.what and "'purple'" in error.why


def test_images_without_any_label(tmp_path: Path) -> None:
    error = refused(write_table(tmp_path, [(name, [], name.split("/")[0]) for name in images(tmp_path)]))
    assert error.what.startswith("no image has a label")


def test_one_class_only(tmp_path: Path) -> None:
    names = images(tmp_path)
    lines = [f"{name},{i % 3 % 2},{name.split('/')[0]}" for i, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["filename,red,split", *lines]) + "\n")
    assert "no column 'label'" in refused(tmp_path / "labels.csv").what
    rows = [(name, ["red"] * (i % 4 < 2), name.split("/")[0]) for i, name in enumerate(names)]
    write_table(tmp_path, rows)
    assert "only 1 class was found ('red')" in refused(tmp_path / "labels.csv").what
    two = [(name, [("red", "blue")[i % 4 // 2]] * (i % 6 < 3), split) for i, (name, _, split) in enumerate(rows)]
    found = configured(SETTINGS | {"data.path": str(write_table(tmp_path, two))})
    source = open_label_sets(found, lambda text: None)
    assert "label sets: 6 images without a label, the others with one" in source.notes


def test_a_class_name_with_the_separator_of_predictions(tmp_path: Path) -> None:
    lines = [f'{name},"red;dark",{name.split("/")[0]}\n{name},green,{name.split("/")[0]}' for name in images(tmp_path)]
    (tmp_path / "labels.csv").write_text("\n".join(["filename,label,split", *lines]) + "\n")
    error = refused(tmp_path / "labels.csv", **{"data.separator": "ee"})
    assert "class names must not contain ';': 'red;dark'" in error.what and "rename these classes" in error.cure
    found = configured(SETTINGS | {"data.path": str(tmp_path / "labels.csv")})
    assert open_label_sets(found, lambda text: None).classes == ("dark", "green", "red")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"train.ensemble": 2}, "train.ensemble is for classification"),
        ({"data.labels": "one"}, "data.labels one is for classification"),
        ({"train.best_metric": "accuracy"}, "train.best_metric must be mean_average_precision or macro_f1"),
        ({"multilabel.threshold_fraction": 1.0}, "threshold_fraction"),
        ({"augment.window": [8, 8]}, "segmentation only"),
        ({"loss.name": "cross_entropy"}, "there is no loss 'cross_entropy' for the task multilabel"),
    ],
)
def test_invalid_settings(train_with: Train, settings: dict, what: str) -> None:
    with pytest.raises(SightlineError) as caught:
        train_with(**settings)
    assert what in str(caught.value)


def test_images_without_labels_are_counted_and_thresholds_are_said(
    quarters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    config = configured(SETTINGS | {"data.path": str(quarters)})
    source = open_label_sets(config, said.append)
    bare = sum(not row["label"] and row["split"] == "train" for row in read_rows(quarters))
    assert f"{bare} images of train without a label" in said
    assert any(note.startswith("label sets in the column 'label', separated by ';' (found)") for note in said)
    held = len(source.splits[THRESHOLDS].names)
    assert said[-1] == f"thresholds: chosen on {held} training images that are held out from training"


def test_the_images_of_the_thresholds_are_in_splits_csv(trained: Path, quarters: Path) -> None:
    source = open_label_sets(configured(SETTINGS | {"data.path": str(quarters)}), lambda text: None)
    rows = read_rows(trained / "splits.csv")
    for split in ("train", "val", THRESHOLDS):
        assert {row["filename"] for row in rows if row["split"] == split} == {*source.splits[split].names}
    labels = {row["filename"]: row["label"] for row in read_rows(quarters)}
    assert all(row["label"] == labels[row["filename"]] for row in rows)


def test_without_held_out_images_every_threshold_is_one_half(train_with: Train) -> None:
    said: list[str] = []
    run = train_with(**{"multilabel.threshold_fraction": 0})
    assert set(json.loads((run.path / "thresholds.json").read_text()).values()) == {0.5}
    config = configured(SETTINGS | {"data.path": run_data(run), "multilabel.threshold_fraction": 0})
    assert THRESHOLDS not in open_label_sets(config, said.append).splits
    assert said[-1] == "thresholds: 0.5 for every class"
    rows = read_rows(run.path / "predictions" / "val.csv")
    assert all(("blue" in row["label"].split(";")) == (float(row["blue"]) >= 0.5) for row in rows)


def test_overwriting_a_run_removes_its_thresholds(
    train_with: Train, photos: Path, tmp_path: Path, tiny: dict, no_figures: None
) -> None:
    run = train_with()
    config = configured(tiny | {"train.epochs": 1, "report.samples": 0})
    sightline.train(config, photos, out=run.path, overwrite=True, quiet=True)
    assert run.metrics["accuracy"] > 0 and not (run.path / "thresholds.json").exists()


def run_data(run: sightline.Run) -> str:
    """The path of the data of a run."""
    return json.loads((run.path / "provenance.json").read_text())["data"]["path"] + "/labels.csv"


@pytest.mark.parametrize(
    "settings",
    [
        {"augment.mixup": 0.5, "augment.cutmix": 1.0, "loss.name": "asymmetric"},
        {"loss.class_weights": "balanced", "train.flip_test": True},
        {"model.freeze": True, "augment.horizontal_flip": 0.0, "loss.smoothing": 0.1},
        {"model.freeze": True, "optim.accumulate": 2, "optim.ema": 0.9},
    ],
    ids=["mixed", "weights", "fixed", "frozen"],
)
def test_options_of_training(train_with: Train, settings: dict) -> None:
    run = train_with(**settings)
    assert np.isfinite([run.metrics["loss"], run.metrics["mean_average_precision"]]).all()
    found = sightline.evaluate(run.path, quiet=True)
    assert found["mean_average_precision"] == pytest.approx(run.metrics["mean_average_precision"], abs=1e-6)


def test_a_class_without_a_validation_image_is_left_out(
    tmp_path: Path, train_with: Train, quarters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_quarters(tmp_path / "data").parent
    rows = []
    for row in read_rows(quarters):
        labels = [name for name in row["label"].split(";") if name != "red" or row["split"] == "train"]
        rows.append((row["filename"], labels, row["split"]))
    run = train_with(write_table(folder, rows))
    assert run.metrics["classes_without_positive"] == 1 and np.isfinite(run.metrics["mean_average_precision"])
    page = sightline.report(run.path).read_text(encoding="utf-8")
    assert "Left out, because no validation image has them: red." in page


def test_validation_images_without_any_label(tmp_path: Path, quarters: Path) -> None:
    folder = write_quarters(tmp_path / "data").parent
    rows = [
        (row["filename"], row["label"].split(";") if row["split"] == "train" else [], row["split"])
        for row in read_rows(quarters)
    ]
    error = refused(write_table(folder, rows))
    assert "no validation image has a label" in error.what and "remove the split val" in error.cure


def test_training_on_shards(quarters: Path, tmp_path: Path, train_with: Train) -> None:
    packed = sightline.pack(quarters, tmp_path / "packed", shard_mb=0.02, quiet=True)
    said: list[str] = []
    config = configured(SETTINGS | {"data.path": str(packed)})
    source = open_label_sets(config, said.append)
    assert "thresholds: 0.5 for every class, because the data are shards" in said
    assert THRESHOLDS not in source.splits and source.classes == ("blue", "green", "red", "white")
    run = train_with(packed)
    assert set(json.loads((run.path / "thresholds.json").read_text()).values()) == {0.5}
    truth = {row["filename"]: row["truth"] for row in read_rows(run.path / "predictions" / "val.csv")}
    expected = {
        r["filename"]: ";".join(sorted(r["label"].split(";"))) for r in read_rows(quarters) if r["split"] == "val"
    }
    assert truth == expected
    assert sightline.evaluate(run.path, quiet=True)["loss"] == pytest.approx(run.metrics["loss"])


def test_a_run_from_one_hot_columns_equals_one_from_a_separator(
    quarters: Path, tmp_path: Path, train_with: Train
) -> None:
    classes, rows = ("blue", "green", "red", "white"), read_rows(quarters)
    lines = ["image," + ",".join(classes) + ",subset"]
    lines += [
        ",".join([row["filename"], *(str(int(name in row["label"].split(";"))) for name in classes), row["split"]])
        for row in rows
    ]
    write_quarters(tmp_path / "data")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(lines) + "\n")
    cpu = {"train.device": "cpu"}  # on others, sums have no fixed order
    first, second = train_with(**cpu), train_with(tmp_path / "data" / "labels.csv", out="second", **cpu)
    weights = [load_file(run.path / "checkpoints" / "last" / "model.safetensors") for run in (first, second)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_weights_of_a_classifier_with_a_new_head(photos: Path, train_with: Train, tmp_path: Path, tiny: dict) -> None:
    settings = tiny | {"model.args": SETTINGS["model.args"], "train.epochs": 1, "report.samples": 0}
    first = sightline.train(configured({"name": "t"} | settings), photos, out=tmp_path / "first", quiet=True)
    run = train_with(**{"model.weights": str(first.path), "model.fresh_head": True, "model.freeze": True})
    before, after = (load_file(one.path / "checkpoints" / "last" / "model.safetensors") for one in (first, run))
    kept = [name for name in before if name.startswith("backbone.")]
    assert kept and all((before[name] == after[name]).all() for name in kept)
    assert isinstance(configured({}), Config)
