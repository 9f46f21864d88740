"""Transfer grids whose settings are tuned, with several pre-trainings, linear evaluation, and a test split."""

import csv
import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import sightline
from sightline import SightlineError
from sightline.config.resolve import resolve, to_yaml
from sightline.config.schema import Config
from sightline.recipes import load_recipe
from sightline.runs.atomic import read_json_lines
from sightline.transfer import training, tuning
from sightline.transfer.checks import check_sources, with_usable_probe
from sightline.transfer.grid import Grid, load_grid_file
from sightline.transfer.plan import longer_epochs
from sightline.transfer.results import read_results
from sightline.transfer.tuning import read_choice
from transfer_toys import copy_images, linear, tiny_grid

pytestmark = pytest.mark.usefixtures("quick_figures")

loop = importlib.import_module("sightline.train")  # `sightline.train` is the function


def tuned_grid(**changes: object) -> Grid:
    """Settings A, C, E and F, two pre-trainings, one seed, tuned, compared on the test split."""
    values = {"settings": ("A", "C", "E", "F"), "seeds": (0,), "pretrain_seeds": (0, 1), "split": "test"}
    return tiny_grid(**values, tune="small", frozen=linear(tiny_grid()), **changes)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, make_photos: Callable[..., Path]) -> Path:
    """Four classes with 10 training, 2 validation and 4 test images each."""
    return make_photos(tmp_path_factory.mktemp("target"), train=10, val=2, test=4)


@pytest.fixture(scope="module")
def images(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other images in one folder, without labels."""
    return copy_images(photos, tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def small_tuning() -> "pytest.MonkeyPatch":
    """Two tries for each setting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "RATES", (0.3, 1.0))
        patch.setattr(tuning, "BUDGETS", (1.0,))
        patch.setattr(tuning, "PENALTIES", (1e-3, 1.0))
        yield patch


@pytest.fixture(scope="module")
def done(
    target: Path, images: Path, tmp_path_factory: pytest.TempPathFactory, quick_figures: None, small_tuning: None
) -> Path:
    """The folder of a complete, tuned grid."""
    folder = tmp_path_factory.mktemp("grid") / "grid"
    sightline.transfer(tuned_grid(), target, unlabeled=images, out=folder, quiet=True)
    return folder


def names_in(run: Path, split: str) -> set[str]:
    """The images of a split in a run's splits.csv."""
    with open(run / "splits.csv", newline="") as file:
        return {row["filename"] for row in csv.DictReader(file) if row["split"] == split}


def test_every_seed_runs_from_every_pretraining(done: Path) -> None:
    runs = {path.parent.name for path in done.glob("*/recipe.yaml")}
    pretrainings = {"pretrain-unlabeled-0", "pretrain-unlabeled-1"}
    assert runs == {"A-0", "F-0", "C-p0-0", "C-p1-0", "E-p0-0", "E-p1-0"} | pretrainings
    assert [load_recipe(str(done / name)).train.seed for name in sorted(pretrainings)] == [0, 1]
    assert Path(load_recipe(str(done / "C-p1-0")).model.weights).name == "pretrain-unlabeled-1"
    result = read_results(done, load_grid_file(done / "grid.yaml"))
    shapes = {one.setting: (one.values.shape, one.pretrainings) for one in result.outcomes}
    assert shapes["A"] == ((1, 1, 16), (None,)) and shapes["C"] == ((2, 1, 16), (0, 1))
    assert not result.missing


def test_tries_see_training_images_only(done: Path, target: Path) -> None:
    tries = sorted(path.parent for path in (done / "tune").glob("*/recipe.yaml"))
    assert len(tries) == 8 and {path.name[0] for path in tries} == set("ACEF")
    known = {str(path.relative_to(target)) for path in (target / "train").rglob("*.png")}
    inner = {frozenset(names_in(path, "val")) for path in tries}
    assert len(inner) == 1 and len(next(iter(inner))) == 8, "one inner split for all settings"
    for path in tries:
        train, val = names_in(path, "train"), names_in(path, "val")
        assert train | val == known and not train & val
        assert not (path / "predictions" / "test.csv").exists()
        assert all(record.get("event") != "test" for record in read_json_lines(path / "metrics.jsonl"))


def test_final_runs_have_the_chosen_settings_all_training_images_and_their_last_epoch(done: Path, target: Path) -> None:
    grid = load_grid_file(done / "grid.yaml")
    for setting in "ACEF":
        choice = read_choice(done, grid, setting)
        assert choice is not None and len(choice.tried) == 2
        assert (
            max(accuracy for _, accuracy in choice.tried)
            == dict((str(s), a) for s, a in choice.tried)[str(choice.chosen)]
        )
        for run in done.glob(f"{setting}-*"):
            config = load_recipe(str(run))
            values = {"optim.lr": config.optim.lr, "train.epochs": config.train.epochs}
            values["optim.weight_decay"] = config.optim.weight_decay
            assert choice.chosen.items() <= values.items() and not config.data.inner_fraction
            assert len(names_in(run, "train")) == 40
            weights = [run / "checkpoints" / name / "model.safetensors" for name in ("best", "last")]
            assert weights[0].read_bytes() == weights[1].read_bytes()


def test_f_has_the_compute_of_a_and_of_the_pretraining(done: Path) -> None:
    flops = {
        name: read_json_lines(done / name / "metrics.jsonl")[-2 if name in ("A-0", "F-0") else -1]["train_flops"]
        for name in ("A-0", "F-0", "pretrain-unlabeled-0")
    }
    per_epoch = flops["A-0"] / 2
    assert abs(flops["F-0"] - flops["A-0"] - flops["pretrain-unlabeled-0"]) <= per_epoch / 2
    assert load_recipe(str(done / "F-0")).train.epochs == longer_epochs(done, load_grid_file(done / "grid.yaml")) > 2


def test_the_test_split_is_looked_at_once_by_each_final_run(done: Path, target: Path, images: Path) -> None:
    def looks() -> list[int]:
        logs = [read_json_lines(path) for path in sorted(done.glob("*/metrics.jsonl"))]
        return [sum(record.get("event") == "test" for record in log) for log in logs]

    assert sorted(looks()) == [0] * 2 + [1] * 6, "not the pre-trainings"
    sightline.transfer(tuned_grid(), target, unlabeled=images, out=done, quiet=True)
    assert sum(looks()) == 6
    rows = (done / "A-0" / "predictions" / "test.csv").read_text().splitlines()[1:]
    assert {row.partition("/")[0] for row in rows} == {"test"}


def test_tables_and_page_say_what_was_chosen(done: Path) -> None:
    with open(done / "grid.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["setting"], row["pretraining"]) for row in rows][:3] == [("A", ""), ("C", "0"), ("C", "1")]
    linear = [row for row in rows if row["setting"] == "E"]
    assert all(row["knn_accuracy"] for row in linear) and not rows[0]["knn_accuracy"]
    values = json.loads((done / "grid.json").read_text())
    assert len(values["settings"]["C"]["tries"]) == 2 and values["split"] == "test"
    assert all("test accuracy" in one["sentence"] for one in values["comparisons"])
    page = (done / "report.html").read_text(encoding="utf-8")
    for words in (
        "Nothing was chosen on these images", "16 test images", "logistic regression by L-BFGS, penalty", "k-NN, %",
        "from pre-training 1", "full model, longer", "by Bonferroni", "Without training on the validation images: most",
    ):  # fmt: skip
        assert words in page, words


def test_later_calls_add_pretrainings(target: Path, images: Path, tmp_path: Path, small_tuning: None) -> None:
    grid, folder = tuned_grid(), tmp_path / "grid"
    once = {"unlabeled": images, "settings": "E", "split": "val", "out": folder, "quiet": True}
    sightline.transfer(grid, target, pretrain_seeds="3", **once)
    result = sightline.transfer(grid, target, pretrain_seeds="1", **once)
    assert result.outcomes[0].pretrainings == (3, 1)
    tries = list((folder / "tune").iterdir())
    assert len(tries) == 2, "tuned on the first pre-training only"
    assert {Path(load_recipe(str(path)).model.weights).name for path in tries} == {"pretrain-unlabeled-3"}


def test_an_interrupted_try_is_resumed(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_tuning: None
) -> None:
    grid, folder = tuned_grid(), tmp_path / "grid"
    end_epoch, calls = loop.end_epoch, []

    def interrupt_once(training, reason):
        calls.append(training.config.name)
        training.stop.requested = calls == ["A-lr0.0015-e2"]
        end_epoch(training, reason)

    monkeypatch.setattr(loop, "end_epoch", interrupt_once)
    once = {"settings": "A", "split": "val", "out": folder, "quiet": True}
    with pytest.raises(SightlineError, match="interrupted") as caught:
        sightline.transfer(grid, target, **once)
    assert caught.value.status == 4 and "the same command" in caught.value.cure
    calls.clear()
    assert not sightline.transfer(grid, target, **once).missing
    assert calls == ["A-lr0.0015-e2"] + ["A-lr0.005-e2"] * 2 + ["A-0"] * 2


def test_a_try_that_diverges_is_not_chosen_and_does_not_stop_the_grid(
    target: Path, tmp_path: Path, small_tuning: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild: list[str] = ["A-lr0.0015-e2"]
    names: list[str] = []

    def train(command: training.Command, name: str, config: Config) -> bool:
        names.append(name.removeprefix("tune/"))
        run = command.folder / name
        run.mkdir(parents=True, exist_ok=True)
        (run / "recipe.yaml").write_text(to_yaml(config))
        if names[-1] in wild:
            (run / "not-finite-batch.txt").write_text("a.png\n")
            (run / "checkpoints" / "last").mkdir(parents=True)
            (run / "checkpoints" / "last" / "state-0.safetensors").touch()
            raise SightlineError("the loss is not finite at step 3")
        (run / "metrics.jsonl").write_text(json.dumps({"event": "done", "accuracy": 0.5, "loss": 1.0}) + "\n")
        return True

    monkeypatch.setattr(training, "train_or_resume", train)
    said: list[str] = []
    grid = tiny_grid(settings=("A",), tune="small")
    command = training.Command("grid", False, tmp_path, said.append, True, 0, grid, grid)
    training.tune(command, "A")
    assert said == ["tune/A-lr0.0015-e2: the loss is not finite at step 3; this try cannot be chosen"]
    choice = read_choice(tmp_path, grid, "A")
    assert choice is not None and choice.chosen["optim.lr"] == 0.005 and len(choice.tried) == 2
    training.tune(command, "A")
    assert names == ["A-lr0.0015-e2", "A-lr0.005-e2", "A-lr0.005-e2"], "it is not tried again"
    path = tmp_path / "tune" / wild[0] / "recipe.yaml"
    path.write_text(to_yaml(resolve(load_recipe(str(path)), {"train.checkpoint_minutes": 1})))
    training.tune(command, "A")  # a setting on which nothing depends
    path.write_text(to_yaml(resolve(load_recipe(str(path)), {"optim.weight_decay": 0.5})))
    with pytest.raises(SightlineError, match="other settings"):
        training.tune(command, "A")


def test_tries_start_from_a_finished_pretraining_only(
    target: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_tuning: None
) -> None:
    grid, folder = tuned_grid(), tmp_path / "grid"
    once = {"unlabeled": images, "settings": "E", "split": "val", "out": folder, "quiet": True}
    end_epoch = loop.end_epoch

    def interrupt(run, reason):
        run.stop.requested = True
        end_epoch(run, reason)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "end_epoch", interrupt)
        with pytest.raises(SightlineError, match="interrupted"):
            sightline.transfer(grid, target, pretrain_seeds="3", **once)
    with pytest.raises(SightlineError, match="first pre-training is not finished") as caught:
        sightline.transfer(grid, target, pretrain_seeds="1", **once)
    assert "--pretrain-seeds 3,1" in caught.value.cure and not (folder / "tune").exists()
    assert sightline.transfer(grid, target, pretrain_seeds="3,1", **once).outcomes[0].pretrainings == (3, 1)


def test_a_grid_of_other_images_is_not_extended(
    images: Path, tmp_path: Path, make_photos: Callable[..., Path], small_tuning: None
) -> None:
    data, out = make_photos(tmp_path / "data", train=10, val=2), tmp_path / "grid"
    once = {"split": "val", "out": out, "quiet": True, "unlabeled": images}
    sightline.transfer(tuned_grid(), data, settings="A", **once)
    first, second = sorted((data / "train").iterdir())[:2]
    moved = next(first.iterdir())
    moved.rename(second / f"other-{moved.name}")
    with pytest.raises(SightlineError, match="another grid") as caught:
        sightline.transfer(tuned_grid(), data, settings="AE", pretrain_seeds="0", **once)
    assert "full.data (its files or labels have changed)" in caught.value.why
    shutil.rmtree(out / "A-0")
    shutil.rmtree(out / "tune")  # as if the first run had failed on a damaged file
    assert not sightline.transfer(tuned_grid(), data, settings="A", **once).missing


def test_settings_are_trained_in_alphabetical_order() -> None:
    """F needs a finished run of A."""
    assert tiny_grid(settings=("F", "C", "A")).settings == ("A", "C", "F")


def test_tries_that_all_diverge_are_an_error_that_says_so(
    target: Path, tmp_path: Path, small_tuning: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = tiny_grid(settings=("A",), tune="small")
    for settings in tuning.candidates(grid, "A"):
        run = tmp_path / "tune" / tuning.name_of_try("A", settings)
        run.mkdir(parents=True)
        (run / "not-finite-batch.txt").touch()
        (run / "recipe.yaml").write_text(to_yaml(tuning.config_of_try(grid, "A", settings, "")))
    with pytest.raises(SightlineError, match="no try of setting A could be trained") as caught:
        training.tune(training.Command("grid", False, tmp_path, print, True, 0, grid, grid), "A")
    assert "--full.optim.lr 0.0005" in caught.value.cure


def test_target_data_that_need_settings_do_not_stop_the_pretraining(target: Path, images: Path, tmp_path: Path) -> None:
    data, rows = tmp_path / "target", []
    data.mkdir()
    for index, path in enumerate(sorted(target.rglob("*.png"))):
        shutil.copy(path, data / f"{index}.png")
        rows.append(f"{index}.png,{path.parent.name},{path.parent.parent.name}\n")
    (data / "labels.csv").write_text("filename,species,split\n" + "".join(rows))
    named = {"data.path": str(data), "data.label_column": "species"}
    grid = tiny_grid(settings=("A", "C"))
    grid = grid.model_copy(update={stage: resolve(getattr(grid, stage), named) for stage in ("full", "frozen")})
    grid = grid.model_copy(update={"unlabeled": resolve(grid.unlabeled, {"data.path": str(images)})})
    check_sources(grid, tmp_path / "grid")
    said: list[str] = []
    assert with_usable_probe(grid.unlabeled, grid.full, said.append) == grid.unlabeled
    assert said and said[0].startswith("no k-NN accuracy is measured during pre-training")
