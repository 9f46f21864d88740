"""Transfer grids: runs, resumption, checks of data and weights, results and their intervals."""

import csv
import importlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

import sightline
from accessibility import violations_of_file
from config_toys import configured
from multilabel_toys import SETTINGS
from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Config, Model
from sightline.recipes import GRIDS, load_grid, load_recipe
from sightline.report.html import element, typeset
from sightline.runs.atomic import read_json_lines
from sightline.transfer.folder import grid_changes
from sightline.transfer.grid import grid_yaml, load_grid_file, resolve_grid
from sightline.transfer.results import read_results
from transfer_toys import copy_images, tiny_grid

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.usefixtures("quick_figures")

loop = importlib.import_module("sightline.train")  # `sightline.train` is the function


@pytest.fixture(scope="module")
def flat(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training photos in one folder, without their labels."""
    return copy_images(photos, tmp_path_factory.mktemp("flat"))


@pytest.fixture(scope="module")
def done(photos: Path, flat: Path, tmp_path_factory: pytest.TempPathFactory, quick_figures: None) -> Path:
    """The folder of a complete grid: ten runs and two pre-trainings."""
    folder = tmp_path_factory.mktemp("grid") / "grid"
    sightline.transfer(tiny_grid(), photos, unlabeled=flat, labeled=photos, out=folder, quiet=True)
    return folder


@pytest.mark.slow
def test_the_page_satisfies_wcag_aa(done: Path, browser: "Browser") -> None:
    assert violations_of_file(browser, done / "report.html") == []


def test_runs_have_the_initial_weights_and_seed_of_their_setting(done: Path) -> None:
    names = {f"{setting}{'-p0' * (setting != 'A')}-{seed}" for setting in "ABCDE" for seed in (0, 1)}
    names |= {"pretrain-labeled-0", "pretrain-unlabeled-0"}
    assert {path.parent.name for path in done.glob("*/recipe.yaml")} == names
    configs = {name: load_recipe(str(done / name)) for name in names}
    origins = {"A": "none", "B": "pretrain-labeled-0", "C": "pretrain-unlabeled-0"}
    origins |= {"D": "pretrain-labeled-0", "E": "pretrain-unlabeled-0"}
    for setting, origin in origins.items():
        for seed in (0, 1):
            config = configs[f"{setting}{'-p0' * (setting != 'A')}-{seed}"]
            assert Path(config.model.weights).name == origin and config.train.seed == seed
            assert config.model.freeze == (setting in "DE")
    full = [configs[name] for name in ("A-0", "B-p0-0", "C-p0-0")]
    assert len({(config.train.epochs, config.optim.lr, config.model.head) for config in full}) == 1
    pretraining = configs["pretrain-unlabeled-0"]
    assert (
        pretraining.task == "pretrain"
        and pretraining.pretrain.probe == configs["C-p0-0"].data.path != pretraining.data.path
    )


def test_a_frozen_backbone_keeps_the_pretrained_weights(done: Path) -> None:
    weights = {
        name: load_file(done / name / "checkpoints" / "last" / "model.safetensors")
        for name in ("pretrain-unlabeled-0", "E-p0-0", "C-p0-0")
    }
    backbone = [name for name in weights["E-p0-0"] if name.startswith("backbone.")]
    assert all(torch.equal(weights["E-p0-0"][name], weights["pretrain-unlabeled-0"][name]) for name in backbone)
    assert not all(torch.equal(weights["C-p0-0"][name], weights["pretrain-unlabeled-0"][name]) for name in backbone)


def test_results_equal_the_metrics_of_the_runs_and_are_on_the_page(done: Path) -> None:
    result = read_results(done, load_grid_file(done / "grid.yaml"))
    assert not result.missing and not result.notes and [o.setting for o in result.outcomes] == list("ABCDE")
    for outcome in result.outcomes:
        (values,) = outcome.scores
        for seed, value in zip(outcome.seeds, values, strict=True):
            name = f"{outcome.setting}{'-p0' * (outcome.setting != 'A')}-{seed}"
            records = read_json_lines(done / name / "metrics.jsonl")
            assert value == pytest.approx(records[-1]["accuracy"])
    with open(done / "grid.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 10
    values = json.loads((done / "grid.json").read_text())
    page = (done / "report.html").read_text(encoding="utf-8")
    for entry in values["comparisons"]:
        assert str(element("li", typeset(entry["sentence"][1:] + ".")))[4:] in page
    assert 'href="C-p0-0/report.html"' in page and (done / "figures" / "grid.png").is_file()


def test_different_image_counts_of_the_pretrainings_are_noted(done: Path, tmp_path: Path) -> None:
    grid = load_grid_file(done / "grid.yaml")
    assert not any("pre-training with labels used" in note for note in read_results(done, grid).notes), "equal counts"
    copied = shutil.copytree(done, tmp_path / "grid")
    path = copied / "pretrain-labeled-0" / "provenance.json"
    record = json.loads(path.read_text())
    record["data"]["counts"]["train"] = 1_090
    path.write_text(json.dumps(record))
    assert any("pre-training with labels used 1,090 images" in note for note in read_results(copied, grid).notes)


def test_report_writes_the_same_page_again(done: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(done, tmp_path / "grid")
    page = (copied / "report.html").read_bytes()
    (copied / "report.html").unlink()
    assert sightline.report(copied).read_bytes() == page


def test_a_second_call_trains_nothing(done: Path, photos: Path, flat: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.glob("*/metrics.jsonl")}
    sightline.transfer(tiny_grid(), photos, unlabeled=flat, labeled=photos, out=done)
    assert {path: path.stat().st_mtime_ns for path in done.glob("*/metrics.jsonl")} == before
    assert "C-p0-1: done" in capsys.readouterr().out


def test_an_interrupted_grid_resumes_the_unfinished_run(
    photos: Path, flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, folder = tiny_grid(settings=("A", "E"), seeds=(0,)), tmp_path / "grid"
    end_epoch = loop.end_epoch
    calls: list[str] = []

    def interrupt_once(training, reason):
        calls.append(training.config.name)
        if calls.count("E-p0-0") == 1 and training.config.name == "E-p0-0":
            training.stop.requested = True
        end_epoch(training, reason)

    monkeypatch.setattr(loop, "end_epoch", interrupt_once)
    with pytest.raises(SightlineError, match="interrupted") as caught:
        sightline.transfer(grid, photos, unlabeled=flat, out=folder, quiet=True)
    assert caught.value.status == 4 and "the same command" in caught.value.cure
    assert read_results(folder, grid).missing == ("E-p0-0",)
    calls.clear()
    result = sightline.transfer(grid, photos, unlabeled=flat, out=folder, quiet=True)
    assert calls == ["E-p0-0"] and not result.missing, "only the second of its two epochs is trained"


def test_a_signal_in_the_last_step_of_a_run_stops_the_grid_after_that_run(
    photos: Path, flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, folder = tiny_grid(settings=("A",), seeds=(0, 1)), tmp_path / "grid"
    end_epoch = loop.end_epoch

    def interrupt_last_step(training, reason):
        if training.progress.step == training.total_steps and training.config.train.seed == 0:
            os.kill(os.getpid(), signal.SIGINT)
        end_epoch(training, reason)

    monkeypatch.setattr(loop, "end_epoch", interrupt_last_step)
    with pytest.raises(SightlineError, match="between two runs") as caught:
        sightline.transfer(grid, photos, out=folder, quiet=True)
    assert caught.value.status == 4 and "the same command" in caught.value.cure
    assert (folder / "A-0" / "report.html").is_file() and not (folder / "A-1").exists()
    assert not sightline.transfer(grid, photos, out=folder, quiet=True).missing


def test_given_weights_are_used_and_not_trained(done: Path, photos: Path, tmp_path: Path) -> None:
    run = done / "pretrain-unlabeled-0"
    result = sightline.transfer(
        tiny_grid(), photos, unlabeled=run, settings="E", seeds="3", out=tmp_path / "g", quiet=True
    )
    assert {path.parent.name for path in (tmp_path / "g").glob("*/recipe.yaml")} == {"E-p0-3"}
    assert (
        load_recipe(str(tmp_path / "g" / "E-p0-3")).model.weights == str(run.absolute()) and len(result.outcomes) == 1
    )


def test_the_head_is_always_initialized_anew(photos: Path, tmp_path: Path) -> None:
    """Also if the pre-training had the classes and the head of the target: its head is not reused."""
    labeled = resolve(tiny_grid().labeled, {"model.head": "mlp"})
    grid = tiny_grid(labeled=labeled, settings=("D",), seeds=(0,), classifier="mlp")
    overrides = {"frozen.optim.lr": 1e-12, "frozen.optim.weight_decay": 0.0, "frozen.train.epochs": 1}
    folder = tmp_path / "g"
    sightline.transfer(grid, photos, labeled=photos, out=folder, quiet=True, **overrides)
    from_scratch = resolve(
        grid.frozen, {"model.head": "mlp", "model.freeze": True, "optim.lr": 1e-12, "train.epochs": 1}
    )
    scratch = sightline.train(from_scratch, photos, out=tmp_path / "scratch", quiet=True)
    runs = (folder / "D-p0-0", scratch.path, folder / "pretrain-labeled-0")
    new, initial, old = (load_file(run / "checkpoints" / "last" / "model.safetensors") for run in runs)
    heads = [name for name in new if name.startswith("head.") and name.endswith("weight")]
    assert len(heads) == 4
    for name in heads:
        torch.testing.assert_close(new[name], initial[name], rtol=0, atol=1e-6)
        assert not torch.allclose(new[name], old[name], atol=1e-3)


def test_later_calls_keep_and_extend_the_settings_and_seeds_of_the_grid(
    done: Path, photos: Path, flat: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(done, tmp_path / "grid")
    sources = {"labeled": photos, "unlabeled": flat, "quiet": True}
    # Only setting A is trained: the other runs of the copy name pre-trainings in the original folder.
    result = sightline.transfer(tiny_grid(), photos, out=folder, settings="A", seeds="0", **sources)
    assert [outcome.setting for outcome in result.outcomes] == list("ABCDE")
    assert load_grid_file(folder / "grid.yaml").settings == tuple("ABCDE")
    result = sightline.transfer(tiny_grid(), photos, out=folder, settings="A", seeds="7", **sources)
    assert result.outcomes[0].seeds == (0, 1, 7) and "B-p0-7" in result.missing


def test_weights_can_be_added_later_if_no_run_has_used_that_pretraining(
    done: Path, photos: Path, tmp_path: Path
) -> None:
    folder, given = tmp_path / "grid", done / "pretrain-labeled-0"
    once = {"seeds": "0", "out": folder, "quiet": True}
    sightline.transfer(tiny_grid(), photos, settings="A", **once)
    before = (folder / "A-0" / "metrics.jsonl").read_bytes()
    result = sightline.transfer(tiny_grid(), photos, labeled=given, settings="AD", **once)
    assert [outcome.setting for outcome in result.outcomes] == ["A", "D"]
    assert (folder / "A-0" / "metrics.jsonl").read_bytes() == before
    with pytest.raises(SightlineError, match="another grid") as caught:
        sightline.transfer(tiny_grid(), photos, labeled=photos, settings="AD", **once)
    assert "labeled_weights" in str(caught.value)


def test_grid_changes_lists_only_changes_that_affect_existing_runs() -> None:
    old = tiny_grid(settings=("A", "B"))
    for key, harmless in (
        ("full.train.evaluate_every", False),
        ("full.train.epochs", False),
        ("labeled.train.epochs", False),
        ("labeled_weights", False),
        ("unlabeled.train.epochs", True),
        ("unlabeled_weights", True),
        ("frozen.train.epochs", True),
        ("full.train.threads", True),
    ):
        value = "given.safetensors" if key.endswith("weights") else 5
        assert grid_changes(old, resolve_grid(old, {key: value})) == ([] if harmless else [key]), key


def test_weights_of_the_wrong_kind_unfinished_or_changed_are_rejected(done: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError) as caught:
        sightline.transfer(
            tiny_grid(), photos, unlabeled=done / "pretrain-labeled-0", labeled=tmp_path / "no.pt", out=tmp_path / "g"
        )
    assert (
        "cannot be used for --unlabeled" in str(caught.value)
        and "--labeled" in str(caught.value)
        and "there is no file or folder of weights with this path" in str(caught.value)
    )
    unfinished = shutil.copytree(done / "pretrain-unlabeled-0", tmp_path / "unfinished")
    lines = (unfinished / "metrics.jsonl").read_text().splitlines()
    (unfinished / "metrics.jsonl").write_text("\n".join(line for line in lines if '"done"' not in line) + "\n")
    with pytest.raises(SightlineError, match="cannot start") as caught:
        sightline.transfer(tiny_grid(), photos, unlabeled=unfinished, settings="E", out=tmp_path / "g")
    assert "not finished" in str(caught.value) and "sightline resume" in str(caught.value)
    given = shutil.copytree(done / "pretrain-unlabeled-0", tmp_path / "given")
    arguments = {"unlabeled": given, "settings": "E", "out": tmp_path / "h", "quiet": True}
    sightline.transfer(tiny_grid(), photos, seeds="0", **arguments)
    shutil.copy(done / "C-p0-0/checkpoints/best/model.safetensors", given / "checkpoints/best/model.safetensors")
    with pytest.raises(SightlineError, match="weights have changed"):
        sightline.transfer(tiny_grid(), photos, seeds="1", **arguments)


def test_weights_of_another_model_are_rejected_before_any_training(
    done: Path, photos: Path, tmp_path: Path, make_scenes: Callable[..., Path], toy: Callable[..., Config]
) -> None:
    wide = Model(name="fastnet", args={"widths": [8, 24, 24]})
    old = tiny_grid()
    wider = {stage: getattr(old, stage).model_copy(update={"model": wide}) for stage in ("labeled", "full", "frozen")}
    grid = tiny_grid(**wider, unlabeled_weights=str(done / "pretrain-unlabeled-0"))
    with pytest.raises(SightlineError, match="cannot start") as caught:
        sightline.transfer(grid, photos, labeled=photos, out=tmp_path / "g")
    assert "the model of these weights" in str(caught.value)
    (tmp_path / "junk.pt").write_bytes(b"no weights")
    with pytest.raises(SightlineError, match="cannot start"):
        sightline.transfer(tiny_grid(), photos, labeled=tmp_path / "junk.pt", settings="D", out=tmp_path / "g")
    scenes = make_scenes(tmp_path / "scenes", train=2, val=1)
    segmenter = sightline.train(toy(**{"train.epochs": 1}), scenes, out=tmp_path / "segmenter", quiet=True)
    with pytest.raises(SightlineError, match="cannot start") as caught:
        sightline.transfer(tiny_grid(), photos, labeled=segmenter.path, settings="D", out=tmp_path / "g")
    assert "with masks" in str(caught.value)
    assert not (tmp_path / "g").exists()


def test_overwrite_removes_only_the_runs_of_a_different_grid(photos: Path, tmp_path: Path) -> None:
    grid, folder = tiny_grid(settings=("A",), seeds=(0,)), tmp_path / "grid"
    sightline.transfer(grid, photos, out=folder, quiet=True)
    (folder / "notes.txt").write_text("mine")
    before = (folder / "A-0" / "metrics.jsonl").read_bytes()
    sightline.transfer(grid, photos, out=folder, overwrite=True, quiet=True)
    assert (folder / "A-0" / "metrics.jsonl").read_bytes() == before, "the grid is unchanged"
    with pytest.raises(SightlineError, match="another grid") as caught:
        sightline.transfer(grid, photos, out=folder, quiet=True, **{"full.optim.lr": 0.01})
    assert "--overwrite" in caught.value.cure
    sightline.transfer(grid, photos, out=folder, overwrite=True, quiet=True, **{"full.optim.lr": 0.01})
    assert load_recipe(str(folder / "A-0")).optim.lr == 0.01 and (folder / "notes.txt").read_text() == "mine"


def test_only_runs_of_setting_c_record_training_images() -> None:
    grid = load_grid("transfer_a")
    recorded = {setting: grid.config_of(setting, 0, "").report.train_samples for setting in "ABCDE"}
    assert recorded == {"A": 0, "B": 0, "C": 2500, "D": 0, "E": 0}


def test_cached_features_give_the_same_losses_as_a_backbone_run_in_every_epoch(photos: Path, tmp_path: Path) -> None:
    config = tiny_grid().frozen
    config = resolve(config, {"model.freeze": True, "optim.name": "sgd", "optim.lr": 0.1, "train.epochs": 3})
    # Jitter with probability 0 changes no image, but any augmentation turns the feature cache off.
    uncached = resolve(config, {"augment.brightness": 0.5, "augment.jitter": 0.0})
    runs = [sightline.train(c, photos, out=tmp_path / f"{n}", quiet=True) for n, c in enumerate((config, uncached))]
    losses = [
        [r["loss"] for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] in ("train", "eval")]
        for run in runs
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    cached_flops, uncached_flops = (run.metrics["train_flops"] for run in runs)
    assert cached_flops < uncached_flops / 2


def test_the_mlp_head_has_four_linear_layers_and_survives_evaluation(photos: Path, flat: Path, tmp_path: Path) -> None:
    grid = tiny_grid(settings=("A",), seeds=(0,))
    result = sightline.transfer(grid, photos, classifier="mlp", out=tmp_path / "g", quiet=True)
    weights = load_file(tmp_path / "g" / "A-0" / "checkpoints" / "best" / "model.safetensors")
    shapes = [tuple(v.shape) for n, v in weights.items() if n.startswith("head.") and v.ndim == 2]
    assert sorted(shapes) == [(4, 1000), (1000, 16), (1000, 1000), (1000, 1000)]
    numbers = sightline.evaluate(tmp_path / "g" / "A-0", quiet=True)
    assert numbers["accuracy"] == pytest.approx(result.outcomes[0].score)


def test_all_mistakes_are_reported_before_any_training(photos: Path, done: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError) as caught:
        sightline.transfer(tiny_grid(), out=tmp_path / "g", quiet=True)
    for words in ("--data", "B and D need", "C and E need", "--settings A", "cannot start"):
        assert words in f"{caught.value}", words
    assert not (tmp_path / "g").exists()
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: sightline.transfer("transfer_quick", photos), "transfer_fast"),
        (lambda: sightline.transfer("vgg13_scratch", photos), "single run"),
        (lambda: sightline.train("transfer_fast", photos), "several runs"),
        (lambda: sightline.transfer(tiny_grid(), photos, settings="AX", out=tmp_path / "g"), "settings"),
        (lambda: sightline.transfer(tiny_grid(), photos, split="test", settings="A", out=tmp_path / "g"), "no split"),
        (lambda: sightline.transfer(tiny_grid(), photos, settings="F", out=tmp_path / "g"), "F continues A"),
        (lambda: sightline.transfer(tiny_grid(), photos, tune="large", out=tmp_path / "g"), "--tune small or none"),
        (lambda: sightline.transfer(tiny_grid(), photos, seeds="0,one", out=tmp_path / "g"), "--seeds"),
        (lambda: sightline.transfer(tiny_grid(), photos, out=tmp_path / "g", **{"optim.lr": 1}), "--full.optim.lr"),
        (lambda: sightline.transfer(tiny_grid(), photos, out=tmp_path / "g", **{"full.optim.rate": 1}), "optim.rate"),
        (lambda: sightline.transfer(tiny_grid(), photos, out=done, settings="A", **{"full.optim.lr": 1}), "another"),
        (lambda: sightline.transfer(tiny_grid(), photos, out=photos / "g", settings="A"), "inside the data"),
        (lambda: sightline.transfer(tiny_grid(), photos, out=photos.parent, settings="A"), "not empty"),
        (lambda: sightline.transfer(tiny_grid(), photos, settings="A", **{"full.model.weights": "x"}), "--labeled"),
        (lambda: sightline.transfer(tiny_grid(), photos, **{"unlabeled.train.seed": 1}), "--pretrain-seeds"),
        (lambda: sightline.transfer(tiny_grid(), photos, settings="AC", unlabeled=photos / "trian"), "did you mean"),
    ]  # fmt: skip
    for call, words in cases:
        with pytest.raises(SightlineError) as caught:
            call()
        assert words in f"{caught.value}", words


def test_a_grid_with_incomparable_stages_is_rejected() -> None:
    grid = tiny_grid()
    with pytest.raises(ValueError, match="same model"):
        tiny_grid(frozen=resolve(grid.frozen, {"data.size": 32}))
    with pytest.raises(ValueError, match="unlabeled, full, frozen need the same model"):
        tiny_grid(unlabeled=resolve(grid.unlabeled, {"data.size": 32}))
    tiny_grid(unlabeled=resolve(grid.unlabeled, {"data.size": 32}), unlabeled_weights="given.safetensors")
    with pytest.raises(ValueError, match="same settings of data"):
        tiny_grid(frozen=resolve(grid.frozen, {"data.val_fraction": 0.3}))
    with pytest.raises(ValueError, match="unlabeled must be trained without labels"):
        tiny_grid(unlabeled=grid.full)


@pytest.mark.parametrize("name", GRIDS)
def test_the_built_in_grids_round_trip_and_have_one_head(name: str, tmp_path: Path) -> None:
    grid = load_grid(name)
    (tmp_path / "grid.yaml").write_text(grid_yaml(grid))
    assert load_grid_file(tmp_path / "grid.yaml") == grid
    heads = {grid.config_of(setting, 0, "").model.head for setting in "ABCDEF"}
    assert heads == {grid.classifier}
    assert resolve_grid(grid, {"full.train.epochs": "7"}).full.train.epochs == 7
    text = " ".join((GRIDS[name].__doc__ or "").split())
    assert f"sightline transfer {name}" in text or name == "transfer_digits"  # trained by `sightline demo`
    assert all(f"{letter} {value:.4f}" in text for letter, value in grid.reported.items())


def test_runs_with_other_validation_images_are_left_out_with_a_note(done: Path, tmp_path: Path) -> None:
    grid = load_grid_file(done / "grid.yaml")
    copied = shutil.copytree(done, tmp_path / "grid")
    table = copied / "C-p0-1" / "predictions" / "val.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(line.replace("val/", "elsewhere/") for line in lines) + "\n")
    (copied / "E-p0-0" / "predictions" / "val.csv").write_text("nonsense\n")
    result = read_results(copied, grid)
    assert [outcome.seeds for outcome in result.outcomes] == [(0, 1), (0, 1), (0,), (0, 1), (1,)]
    assert len(result.notes) == 2 and "C-p0-1 was evaluated on other validation images" in result.notes[0]
    assert result.missing == ("E-p0-0",)


def test_label_sets_are_not_for_a_grid_of_classifiers(quarters: Path, flat: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="the data have label sets") as caught:
        sightline.transfer(tiny_grid(), quarters, unlabeled=flat, labeled=quarters, out=tmp_path / "grid", quiet=True)
    assert "is for one label per image" in str(caught.value)
    with pytest.raises(SightlineError, match="the transfer grid is invalid") as caught:
        resolve_grid(tiny_grid(), {"full": load_recipe("multilabel_scratch")})
    assert "must be trained with labels, but its task is multilabel" in caught.value.why


def test_a_run_of_label_sets_is_no_pretraining(quarters: Path, photos: Path, tmp_path: Path) -> None:
    config = configured(SETTINGS | {"train.epochs": 1, "report.samples": 0})
    run = sightline.train(config, quarters, out=tmp_path / "sets", quiet=True)
    with pytest.raises(SightlineError, match="this run cannot be used for --labeled") as caught:
        sightline.transfer(tiny_grid(settings=("B",)), photos, labeled=run.path, out=tmp_path / "grid", quiet=True)
    assert "trained with label sets; --labeled needs weights that were trained with labels" in str(caught.value)
