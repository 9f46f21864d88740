"""What a sweep searches, and on which images its trials are ranked: sweeps of pre-trainings."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import sightline
from config_toys import configured
from sightline.config.schema import Config
from sightline.errors import SightlineError
from sightline.sweep.plan import make_plan
from sightline.sweep.trial import RunningTrial

pytestmark = pytest.mark.usefixtures("forked")
QUICK = {"train.epochs": 1, "report.samples": 0, "pretrain.neighbors": 3}


def write_noise(folder: Path, count: int) -> Path:
    """Write PNG files of random pixels, without labels; returns the folder."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(count)
    for number in range(count):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def test_pre_trainings_are_ranked_on_the_validation_images_of_the_probe(
    small: Callable[..., Config], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    labeled = make_photos(tmp_path / "labeled", classes=2, train=10, val=7, size=16)
    write_noise(tmp_path / "flat", 32)
    write_noise(tmp_path / "split" / "train", 32)
    write_noise(tmp_path / "split" / "val", 3)
    for folder, trials in ((tmp_path / "flat", 2), (tmp_path / "split", 1)):
        out = tmp_path / f"sweep-{folder.name}"
        result = sightline.sweep(
            small(**QUICK), folder, out=out, trials=trials, quiet=True,
            **{"pretrain.probe": str(labeled), "optim.lr": [1e-3, 1e-2]},
        )  # fmt: skip
        values = result.values
        assert [row["state"] for row in result.trials] == ["complete"] * trials, result.trials
        assert values["selection"] == {"split": "val", "images": 14} and values["metric"] == "knn_accuracy"
        assert values["data"]["images"] == {"train": 32, "val": 14, "labeled": 20}
        page = result.report.read_text(encoding="utf-8")
        assert "selected by k-NN accuracy on the 14 images of the validation split" in page


def test_pre_trainings_on_unlabeled_images_without_a_probe_are_an_error_before_any_training(
    small: Callable[..., Config], tmp_path: Path
) -> None:
    images = write_noise(tmp_path / "images", 32)
    with pytest.raises(SightlineError, match="cannot be compared") as caught:
        sightline.sweep(small(**QUICK), images, out=tmp_path / "s", **{"optim.lr": [1e-3, 1e-2]})
    assert "--pretrain.probe LABELED" in caught.value.cure and not (tmp_path / "s").exists()


def test_the_metric_of_the_best_epoch_is_that_of_the_sweep(
    small: Callable[..., Config], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    photos = make_photos(tmp_path / "photos", classes=2, train=4, val=2, size=16)
    for given, metric in (("epoch", None), ("loss", "accuracy")):
        settings = {"data.path": str(photos), "train.best_metric": given, "optim.lr": [1e-3, 1e-2]}
        with pytest.raises(SightlineError, match="keeps the epoch with the best accuracy") as caught:
            make_plan("photos_scratch", settings, metric, "tpe", "median", 0)
        assert "--metric" in caught.value.cure


def test_other_content_of_the_initial_weights_is_another_sweep(
    make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    photos, file = make_photos(tmp_path / "photos", classes=2, train=4, val=2, size=16), tmp_path / "w.safetensors"
    settings = {"data.path": str(photos), "model.weights": str(file), "optim.lr": [1e-3, 1e-2]}

    def identity() -> dict[str, str]:
        return make_plan("photos_scratch", dict(settings), None, "tpe", "median", 0).identity()

    file.write_bytes(b"one")
    first, again = identity(), identity()
    file.write_bytes(b"two")
    assert first == again and {key for key in first if first[key] != identity()[key]} == {"data, weights"}


def test_a_trial_is_not_pruned_in_the_first_fifth_of_its_own_epochs(tmp_path: Path) -> None:
    """The pruner is that of a sweep whose candidates of `train.epochs` differ."""
    pruned = {}
    for pruner, epochs in (("median", 40), ("median", 4), ("none", 40)):
        values = {float(epoch): 0.1 for epoch in range(1, epochs)}
        study = SimpleNamespace(
            plan=SimpleNamespace(pruner=pruner, name="s"),
            folder=tmp_path,
            all=lambda: [SimpleNamespace(intermediate_values={})],
        )
        trial = SimpleNamespace(number=0, report=lambda value, epoch: None, should_prune=lambda: True)
        (tmp_path / "trial-0000").mkdir(exist_ok=True)
        (tmp_path / "trial-0000" / "metrics.jsonl").write_text("x")
        running = RunningTrial(study, trial, configured({"task": "classify", "train.epochs": epochs}), 0)  # type: ignore
        running.evaluations, running.check_image_digest = lambda values=values: values, lambda: None  # type: ignore
        running.report()
        pruned[pruner, epochs] = running.pruned_epoch
    assert pruned == {("median", 40): 9, ("median", 4): 2, ("none", 40): 1}
