"""Heads that are fitted to features: logistic regression by L-BFGS, k-nearest neighbors, and their cached features."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn

import sightline
from config_toys import configured
from multilabel_toys import write_quarters
from sightline import SightlineError
from sightline.engine.parts import Parts
from sightline.models.heads import NearestHead
from sightline.stats.metrics import knn_votes
from sightline.tasks.classify import evaluate as evaluation
from sightline.tasks.classify.build import build
from sightline.tasks.classify.results import nearest_accuracy
from sightline.tasks.classify.task import ClassifyLearner
from sightline.tasks.files import load_recipe_file
from sightline.tasks.multilabel import evaluate as evaluation_of_sets
from sightline.tasks.whole_image import fitted
from sightline.tasks.whole_image.features import stored_features
from sightline.tasks.whole_image.fitted import choose_penalty, fit_head, logistic_regression, standardization
from sightline.tasks.whole_image.predict import predictor
from sightline.tasks.whole_image.serve import indexed

pytestmark = pytest.mark.usefixtures("no_reports")

SETTINGS = {
    "task": "classify",
    "data.size": 16,
    "model.name": "fastnet",
    "model.args": {"widths": [8, 16, 16]},
    "model.freeze": True,
    "optim.name": "lbfgs",
    "optim.weight_decay": 0.01,
    "train.epochs": 1,
    "train.batch_size": 16,
    "train.precision": "fp32",
    "train.threads": 1,
    "report.samples": 0,
}


def logits_of(features: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> np.ndarray:
    head = nn.Linear(features.shape[1], classes)
    fit_head(head, torch.from_numpy(features), torch.from_numpy(labels), penalty)
    return features @ head.weight.detach().double().numpy().T + head.bias.detach().double().numpy()


def test_l_bfgs_uses_one_thread_beside_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes many short vector operations, whose threads wait for each other: 90 ms for each of them instead of 5."""
    used, minimize = [], fitted.minimize

    def watched(*args, **options):
        used.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return minimize(*args, **options)

    monkeypatch.setattr(fitted, "minimize", watched)
    with threadpool_limits(2, "blas"):
        logistic_regression(torch.eye(6), torch.arange(6) % 2, 2, 0.1)
    assert set(used) <= {1}  # Accelerate of macOS is not listed


def clusters(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features [300, 12] of very different scales, and labels of four classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 300)
    return (rng.normal(size=(4, 12))[labels] + rng.normal(size=(300, 12))) * rng.uniform(0.01, 50, 12) + 7, labels


def test_it_is_scikit_learns_logistic_regression_of_standardized_features() -> None:
    features, labels = clusters()
    standard = (features - features.mean(0)) / features.std(0)
    reference = LogisticRegression(C=1 / (300 * 0.03), tol=1e-8, max_iter=5000).fit(standard, labels)
    expected, found = reference.decision_function(standard), logits_of(features, labels, 4, 0.03)
    np.testing.assert_allclose(
        found - found.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), atol=2e-3
    )


def test_with_few_images_features_that_hardly_vary_are_not_enlarged() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 4)
    features = rng.normal(size=(8, 6)) + 3 * labels[:, None]
    features[:, 5] = 1e-3 * labels  # varies little among the training images, and much in others
    others = rng.normal(size=(200, 6))
    others[:, :5] += 3 * np.repeat([0, 1], 100)[:, None]
    head = nn.Linear(6, 2).double().requires_grad_(False)
    fit_head(head, torch.from_numpy(features), torch.from_numpy(labels), 0.01)
    found = head(torch.from_numpy(others)).argmax(1).numpy()
    assert (found == np.repeat([0, 1], 100)).mean() > 0.95
    mean, scale = standardization(torch.from_numpy(features))
    weights, biases = torch.from_numpy(rng.normal(size=(2, 6))), torch.zeros(2).double()
    folded = torch.from_numpy(others) @ (weights / scale).T + biases - weights / scale @ mean
    torch.testing.assert_close((torch.from_numpy(others) - mean) / scale @ weights.T, folded)


def test_of_label_sets_it_is_one_logistic_regression_for_each_class() -> None:
    features, labels = clusters()
    sets = np.stack([labels == 1, labels >= 2, (labels == 0) | (features[:, 0] > features[:, 0].mean())], 1)
    standard = (features - features.mean(0)) / features.std(0)
    found = logits_of(features, sets, 3, 0.03)
    for column in range(3):
        reference = LogisticRegression(C=1 / (300 * 0.03), tol=1e-8, max_iter=5000).fit(standard, sets[:, column])
        np.testing.assert_allclose(found[:, column], reference.decision_function(standard), atol=2e-3)


def test_products_in_float32_change_little() -> None:
    features, labels = (torch.from_numpy(each) for each in clusters())
    scaled = (features - features.mean(0)) / features.std(0, correction=0)
    double, single = (logistic_regression(each, labels, 4, 0.03) for each in (scaled, scaled.float()))
    np.testing.assert_allclose(single, double, atol=2e-3)


def test_the_penalty_with_the_lowest_loss_on_held_out_images_is_chosen() -> None:
    rng = np.random.default_rng(1)
    labels = torch.from_numpy(rng.integers(0, 2, 120))
    noise = torch.from_numpy(rng.normal(size=(120, 60)))  # mostly noise: a weak penalty overfits
    noise[:, 0] += 2.0 * labels
    held = np.arange(120) % 5 == 0
    penalties = (1e-5, 1e-1, 1e3)
    best, loss, _ = choose_penalty(noise, labels, 2, penalties, held)
    assert best == 1e-1
    assert loss < math.log(2), "better than no information"
    said: list[str] = []
    head = nn.Linear(60, 2)
    fit_head(head, noise, labels, 7.0, penalties, lambda: held, said.append)
    alone = nn.Linear(60, 2)
    fit_head(alone, noise, labels, 1e-1)
    torch.testing.assert_close(head.weight, alone.weight, rtol=1e-3, atol=1e-3)
    assert said and "penalty 0.1" in said[0] and "24 training images" in said[0]


def test_with_few_held_out_images_the_penalty_is_that_of_the_recipe() -> None:
    features, labels = (torch.from_numpy(each) for each in clusters())
    heads = nn.Linear(12, 4), nn.Linear(12, 4)
    few = np.arange(300) < 5
    fit_head(heads[0], features, labels, 0.5, (1e-3, 1e-2), lambda: few)
    fit_head(heads[1], features, labels, 0.5)
    torch.testing.assert_close(heads[0].weight, heads[1].weight, rtol=0, atol=0)


def test_a_single_penalty_is_used_without_holding_out_images() -> None:
    features, labels = (torch.from_numpy(each) for each in clusters())
    heads, said = (nn.Linear(12, 4), nn.Linear(12, 4)), []
    fit_head(heads[0], features, labels, 0.5, (3.0,), lambda: np.arange(300) % 5 == 0, said.append)
    fit_head(heads[1], features, labels, 3.0)
    assert torch.equal(heads[0].weight, heads[1].weight) and not said


def test_features_that_are_constant_or_classes_without_images_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 5)), rng.integers(0, 2, 40)
    features[:, 2] = 3.0
    assert 2 not in logits_of(features, labels, 3, 1e-4).argmax(1)


def test_a_nearest_head_votes_as_the_reference_and_is_restored_from_a_checkpoint() -> None:
    features, labels = (torch.from_numpy(each) for each in clusters())
    head = NearestHead(12, 4)
    assert head(features.float()).tolist() == [[0.0] * 4] * 300, "before features are stored"
    head.store(features[:200], labels[:200])
    centered = features.float() - features[:200].float().mean(0)
    votes = knn_votes(centered[:200], labels[:200], centered[200:], 4)
    shares = votes / votes.sum(1, keepdim=True)
    torch.testing.assert_close(head(features[200:].float()).softmax(1), shares, rtol=1e-3, atol=1e-3)
    other = NearestHead(12, 4)
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(other(features[200:].float()), head(features[200:].float()), rtol=0, atol=0)


def test_a_nearest_head_for_label_sets_gives_the_share_of_each_class() -> None:
    features, labels = (torch.from_numpy(each) for each in clusters())
    sets = torch.stack([labels == 1, labels >= 2], 1)
    head = NearestHead(12, 2, k=5)
    fit_head(head, features, sets, 0.0)
    direction = nn.functional.normalize(features.float() - features.float().mean(0), dim=1)
    nearest, index = (direction @ direction.T).topk(5, 1)
    expected = ((nearest / 0.07).softmax(1)[..., None] * sets[index].float()).sum(1)
    torch.testing.assert_close(head(features.float()).sigmoid().clamp(0.001, 0.999), expected.clamp(0.001, 0.999))


def test_nearest_neighbors_of_separate_classes() -> None:
    bank = torch.eye(3).repeat(5, 1)
    labels = np.tile(np.arange(3), 5)
    assert nearest_accuracy(bank, labels, torch.eye(3), np.array([0, 1, 0])) == pytest.approx(2 / 3)


def test_a_run_with_lbfgs_is_an_ordinary_run(photos: Path, tmp_path: Path) -> None:
    run = sightline.train(configured(SETTINGS), photos, out=tmp_path / "run", quiet=True)
    chance, trained = 0.25, run.metrics["accuracy"]
    assert trained > 2 * chance and run.metrics["knn_accuracy"] > 1.5 * chance
    again = sightline.evaluate(run, quiet=True)
    assert again["accuracy"] == trained and again["knn_accuracy"] == pytest.approx(run.metrics["knn_accuracy"])
    steps = sightline.train(
        configured(SETTINGS | {"optim.name": "sgd", "optim.lr": 1e-9}), photos, out=tmp_path / "sgd", quiet=True
    )
    assert steps.metrics["loss"] > run.metrics["loss"], "one epoch of SGD with a tiny rate learns nothing"
    assert len(list((tmp_path / "run" / "predictions").iterdir())) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.freeze": False}, "model.freeze true"),
        ({"augment.horizontal_flip": 0.5}, "no augmentation"),
        ({"train.epochs": 3}, "train.epochs 1"),
        ({"loss.smoothing": 0.1}, "minimizes cross-entropy"),
        ({"model.head": "mlp"}, "model.head linear"),
        ({"optim.name": "knn"}, "model.head knn"),
        ({"optim.name": "sgd", "model.head": "knn"}, "needs optim.name knn"),
        ({"optim.name": "sgd", "optim.decay_choices": [0.1]}, "decay_choices is for"),
        ({"model.fit_head": True, "model.head": "mlp", "optim.name": "sgd"}, "fit_head needs model.head linear"),
        ({"task": "segment"}, "classifiers of images only"),
    ],
)
def test_lbfgs_is_for_linear_evaluation_only(changes: dict[str, object], words: str) -> None:
    with pytest.raises(SightlineError, match=words):
        configured(SETTINGS | changes)


def test_knn_on_pixels_and_the_constant_network_are_ordinary_runs(photos: Path, tmp_path: Path) -> None:
    knn = {"model.name": "pixels", "model.args": {}, "model.head": "knn", "optim.name": "knn"}
    run = sightline.train(configured(SETTINGS | knn), photos, out=tmp_path / "knn", quiet=True)
    assert run.metrics["accuracy"] > 0.5, "colors tell the classes apart"
    assert sightline.evaluate(run, quiet=True)["loss"] == run.metrics["loss"]
    table = sightline.predict(run, photos / "val", out=tmp_path / "p.csv", quiet=True)
    assert table.read_text().count("\n") > 8
    assert sightline.export(run, format="onnx", quiet=True).is_file()  # compared with the run's own predictions
    constant = {"model.name": "constant", "model.args": {}, "optim.weight_decay": 0.0}
    run = sightline.train(configured(SETTINGS | constant), photos, out=tmp_path / "constant", quiet=True)
    assert run.metrics["loss"] == pytest.approx(math.log(4), abs=1e-3), "the frequencies of four equal classes"


def test_nearest_images_of_a_served_run_have_the_features_that_training_stored(photos: Path, tmp_path: Path) -> None:
    network = {"model.name": "small_cnn", "model.args": {"widths": [8, 8]}, "report.baselines": False}
    config = configured(SETTINGS | network | {"data.cache_dir": str(tmp_path / "cache")})
    run = sightline.train(config, photos, out=tmp_path / "run", quiet=True)
    config = load_recipe_file(run.path / "recipe.yaml")
    model = predictor(ClassifyLearner, run.path, config, features=True)
    page = sightline.report(run.path).read_text()
    assert 'id="curves"' not in page and "over the epochs" not in page, "nothing is trained in steps"
    index = indexed(config, model, str)
    assert index.done == len(index.rows) and not [*index.steps(model)]
    for row in index.rows[:5]:
        own = model.predict(torch.from_numpy(index.train.images[row : row + 1]))[1]
        assert own is not None and index.nearest(own[0], 1)[0] == (row, pytest.approx(1, abs=1e-3))
    shutil.rmtree(tmp_path / "cache")
    again = indexed(config, model, str)
    assert again.done == 0 and again.features is None, "without the cache they are computed in the background"


def test_features_are_computed_once_for_every_run_with_the_same_network(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"

    def trained(name: str, **settings: object) -> str:
        network = {"model.name": "small_cnn", "model.args": {"widths": [8, 8]}, "report.baselines": False}
        config = configured(SETTINGS | network | {"data.cache_dir": str(cache)} | settings)
        sightline.train(config, photos, out=tmp_path / name)
        return capsys.readouterr().out

    assert trained("first").count("computed in") == 2
    (folder,) = cache.glob("features-*")
    stored = stored_features(folder)
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = trained("again", **{"optim.weight_decay": 0.1, "data.inner_fraction": 0.25})
    assert again.count("from the cache") == 2, again
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    for path in folder.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-8])
    assert not stored_features(folder), "damaged files are not used"
    assert "computed in" in trained("third")
    assert {digest: each.tolist() for digest, each in stored_features(folder).items()} == {
        digest: each.tolist() for digest, each in stored.items()
    }
    assert "computed in" in trained("other", **{"train.seed": 5}), "other weights"
    assert len([*cache.glob("features-*")]) == 2
    assert "features of small_cnn" in sightline.cache(folder=cache)
    sightline.cache(clear=True, folder=cache)
    assert not [*cache.glob("features-*")]


@pytest.mark.parametrize(("task", "lines"), [("classify", 3), ("multilabel", 1)])
def test_evaluation_takes_features_from_the_cache_with_the_same_result(
    task: str,
    lines: int,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = photos if task == "classify" else write_quarters(tmp_path / "data")
    network = {"model.name": "small_cnn", "model.args": {"widths": [8, 8]}, "report.baselines": False}
    config = configured(SETTINGS | network | {"task": task, "data.cache_dir": str(tmp_path / "cache")})
    sightline.train(config, data, out=tmp_path / "run", quiet=True)
    table = tmp_path / "run/predictions/val.csv"
    trained = table.read_bytes()
    found = sightline.evaluate(tmp_path / "run")
    assert capsys.readouterr().out.count("from the cache") == lines and table.read_bytes() == trained
    monkeypatch.setattr({"classify": evaluation, "multilabel": evaluation_of_sets}[task], "FITTED", {})  # by batches
    assert sightline.evaluate(tmp_path / "run", quiet=True) == found and table.read_bytes() == trained


def test_a_head_can_be_fitted_before_training(photos: Path) -> None:
    tuned = {"model.freeze": False, "optim.name": "sgd", "train.epochs": 2, "data.path": str(photos)}

    def built(fresh: bool = True, **settings: object) -> tuple[Parts, float]:
        parts = build(configured(SETTINGS | tuned | settings), lambda text: None, "", fresh)
        images = torch.from_numpy(parts.train.images[:])
        with torch.no_grad():
            found = parts.model.eval()(parts.learner.transform(images)).argmax(1)
        return parts, float((found.numpy() == parts.train.labels).mean())

    (plain, guessed), (fitted, right) = built(), built(**{"model.fit_head": True})
    assert right > guessed + 0.3
    assert fitted.facts["train_flops"] == pytest.approx(plain.facts["train_flops"] * 7 / 6, rel=0.01)
    assert built(False, **{"model.fit_head": True})[1] == guessed, "a resumed run reads its head from the checkpoint"


def test_the_metric_epoch_keeps_the_last_weights(photos: Path, tmp_path: Path) -> None:
    config = configured(
        SETTINGS | {"model.freeze": False, "optim.name": "sgd", "train.epochs": 4, "train.best_metric": "epoch"}
    )
    run = sightline.train(config, photos, out=tmp_path / "run", quiet=True)
    last, best = ((tmp_path / "run/checkpoints" / name / "model.safetensors").read_bytes() for name in ("last", "best"))
    assert last == best and "best_epoch" not in run.metrics
    assert "choice of the best epoch" not in sightline.report(run.path).read_text(encoding="utf-8")
