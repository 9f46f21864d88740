"""Baselines of whole-image tasks: equal to those of scikit-learn, cached, bounded, and never the end of a run."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

import sightline
from config_toys import configured
from multilabel_toys import SETTINGS
from parts_toys import build
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.data.cache import BASELINES, cache_clear, cache_root
from sightline.data.types import Decoded
from sightline.engine.evaluate import baselines as guarded
from sightline.tasks.classify import results as classify
from sightline.tasks.multilabel import results as multilabel
from sightline.tasks.pretrain import results as pretrain
from sightline.tasks.whole_image import baselines

pytestmark = pytest.mark.usefixtures("no_reports")
NARROW = {"model.args": {"widths": [8, 16, 16], "hidden": 32}}


def training_of(config: Config, data: Path) -> Any:
    """What the functions `baselines` need of a finished training."""
    config = resolve(config, {"data.path": str(data)})
    return SimpleNamespace(
        config=config, parts=build(config, lambda text: None), log=SimpleNamespace(say=lambda text: None)
    )


@pytest.fixture
def training(photos: Path, tiny: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    return training_of(configured(tiny | NARROW), photos)


def centered(train: Decoded, val: Decoded) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of the images [N, D], minus the mean training image."""
    bank, queries = (split.images.reshape(len(split.images), -1) / 255 for split in (train, val))
    return bank - bank.mean(0), queries - bank.mean(0)


def nearest(bank: np.ndarray, labels: np.ndarray, k: int) -> KNeighborsClassifier:
    def weights(distances: np.ndarray) -> np.ndarray:
        return np.exp((1 - distances) / 0.07)

    return KNeighborsClassifier(k, weights=weights, metric="cosine").fit(bank, labels)


def initial_features(training: Any, *splits: Decoded) -> list[np.ndarray]:
    """The features [N, D] of the images of each split by the network of `training`, which is not trained yet."""
    network, transform = training.parts.model.eval(), training.parts.learner.transform
    with torch.no_grad():
        return [network.features(transform(torch.from_numpy(split.images))).numpy() for split in splits]


def test_the_values_are_those_of_scikit_learn(training: Any) -> None:
    train, val = training.parts.train, training.parts.val
    training.parts = replace(training.parts, train=replace(train, labels=np.where(train.labels == 1, 2, train.labels)))
    train, found = training.parts.train, classify.baselines(training, 1e12)
    frequent = DummyClassifier().fit(train.images, train.labels).score(val.images, val.labels)
    bank, queries = centered(train, val)
    raw = nearest(bank, train.labels, 16).score(queries, val.labels)
    bank, queries = initial_features(training, train, val)
    untrained = nearest(bank, train.labels, 16).score(queries, val.labels)
    assert frequent == 0.25 and 0.25 < raw < 1
    assert found == ({"most_frequent_class": frequent, "knn_raw_pixels": raw, "knn_untrained": untrained}, [])


def test_the_values_of_label_sets_are_those_of_scikit_learn(quarters: Path) -> None:
    training = training_of(configured(SETTINGS), quarters)
    train, val = training.parts.train, training.parts.val
    found, _ = multilabel.baselines(training, 1e12)
    assert found.pop("class_frequencies") == pytest.approx(val.labels.mean(0).mean())
    pairs = {"knn_raw_pixels": centered(train, val), "knn_untrained": initial_features(training, train, val)}
    for name, (bank, queries) in pairs.items():
        k = min(20, len(train.labels) // 4)
        votes = [nearest(bank, column, k).predict_proba(queries)[:, 1] for column in train.labels.T]
        assert found.pop(name) == pytest.approx(average_precision_score(val.labels, np.stack(votes, 1)), abs=1e-4)
    assert not found


def test_a_pre_training_is_compared_with_its_start(small: Callable[..., Config], photos: Path) -> None:
    training = training_of(small(), photos)
    found, notes = pretrain.baselines(training, 1e12)
    learner = training.parts.learner
    with torch.no_grad():
        learner.model.eval()  # not trained yet
        parts = [learner.bank_features(batch) for batch in learner.bank.batches()]
        queries = learner.model.features(learner.transform(torch.from_numpy(training.parts.val.images)))
        predicted = learner.votes(queries, parts).argmax(1).numpy()
    assert found["knn_untrained"] == (predicted == training.parts.val.labels).mean() and not notes
    learner.bank = None
    assert pretrain.baselines(training, 1e12) == ({}, [])


def test_the_values_are_computed_once_for_the_same_data(training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, root = classify.baselines(training, 1e12), cache_root()
    assert len(list(root.glob(f"{BASELINES}*.json"))) == 2
    with monkeypatch.context() as patch:
        patch.setattr(baselines.ImageBaselines, "knn", lambda *arguments, **options: 2.0)
        assert classify.baselines(training, 1e12) == first
        training.config = resolve(training.config, {"train.seed": 5})
        other, _ = classify.baselines(training, 1e12)
        assert other["knn_raw_pixels"] == first[0]["knn_raw_pixels"] and other["knn_untrained"] == 2.0
        training.parts = replace(training.parts, val=replace(training.parts.val, digest="of other data"))
        assert classify.baselines(training, 1e12)[0]["knn_raw_pixels"] == 2.0
    cache_clear(root)
    assert not list(root.glob(f"{BASELINES}*"))


def test_the_numbers_of_images_are_bounded_and_stated(training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_IMAGES", 32)
    found, notes = classify.baselines(training, 1e12)
    assert notes == ["k-NN: of 16 of 16 validation images, by 32 of 64 training images"] and len(found) == 3
    for name, value in (("FREE_FLOPS", 1.0), ("FEWEST_IMAGES", 5)):
        monkeypatch.setattr(baselines, name, value)
    cost = baselines.forward_flops(training.parts.model.backbone, 16)
    _, notes = classify.baselines(training, 24 * cost / baselines.SHARE)
    assert notes[1:] == [
        "k-NN on the network with random weights: of 8 of 16 validation images, by 16 of 64 training images"
    ]
    found, notes = classify.baselines(training, 1.0)
    assert notes[1:] == ["no k-NN on the network with random weights: it would take over 2% of the training"]
    assert set(found) == {"most_frequent_class", "knn_raw_pixels"}


def test_large_images_are_reduced(training: Any) -> None:
    training.config = resolve(training.config, {"data.size": 64})
    setup = baselines.ImageBaselines(training, "", lambda *arguments: 0.0, training.parts.train, lambda: None)
    gray = torch.full((2, 3, 64, 64), 51, dtype=torch.uint8)
    assert torch.allclose(setup.pixels(gray), torch.full((2, 3 * 32 * 32), 0.2))


def test_an_error_is_a_warning_and_the_run_has_its_result(
    photos: Path, tiny: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("no images")

    monkeypatch.setattr(classify, "image_baselines", broken)
    settings = {"train.epochs": 1, "report.samples": 0}
    run = sightline.train(configured(tiny | NARROW | settings), photos, out=tmp_path / "run")
    assert "accuracy" in run.metrics and "baselines" not in run.metrics and sightline.report(run.path).is_file()
    assert "the baselines were not computed (ZeroDivisionError: no images)" in capsys.readouterr().err


def test_the_run_prints_and_records_them_unless_switched_off(
    photos: Path, tiny: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"train.epochs": 1, "report.samples": 0}
    run = sightline.train(configured(tiny | NARROW | settings), photos, out=tmp_path / "run")
    found = run.metrics["baselines"]
    assert list(found) == ["most_frequent_class", "knn_raw_pixels", "knn_untrained"] and found["knn_raw_pixels"] > 0.25
    line = f"without training: most frequent class 0.2500, k-NN on raw pixels {found['knn_raw_pixels']:.4f}, k-NN on"
    assert line in capsys.readouterr().out
    page = re.sub("</?b>", "", sightline.report(run.path).read_text())
    assert "The same score without training: most frequent class 25.0%, k-NN on raw pixels" in page
    training = SimpleNamespace(config=resolve(Config(), {"report.baselines": False}), functions=SimpleNamespace())
    training.functions.baselines = pytest.fail
    assert guarded(training, 1.0) == ({}, [])
