"""Resuming: weights equal to those of an uninterrupted run, more epochs, errors with a cure."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import sightline
from config_toys import configured
from multilabel_toys import SETTINGS
from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.engine import device, setup, training_state
from sightline.engine.schedules import training_side
from sightline.runs import run_folder
from sightline.runs.atomic import read_json_lines
from sightline.runs.provenance import rounding_note
from sightline.runs.run_folder import holds_run_of, precision_of
from sightline.tasks.files import load_recipe_file

pytestmark = pytest.mark.usefixtures("quick_figures")

Copies = Callable[..., Path]
FALLING = {"schedule.name": "linear", "schedule.final_factor": 0.1, "optim.ema": 0}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "last" / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def base(tiny: dict, **more: object) -> Config:
    values = {"schedule.name": "one_cycle", "optim.lr": 0.05, "report.samples": 4}
    values |= {"model.args": {"widths": [8, 16, 16], "hidden": 32}}
    return resolve(Config(name="t"), tiny | values | more)


@pytest.fixture(scope="module")
def copies(photos: Path, tiny: dict, tmp_path_factory: pytest.TempPathFactory, quick_figures: None) -> Copies:
    """copies(target, "base" or "falling"): copy a finished run of two epochs of that recipe to `target`."""
    folder = tmp_path_factory.mktemp("finished")

    def copied(target: Path, name: str = "base") -> Path:
        if not (folder / name).exists():
            recipe = base(tiny, **(FALLING if name == "falling" else {}))
            sightline.train(recipe, photos, out=folder / name, quiet=True)
        return shutil.copytree(folder / name, target)

    return copied


@pytest.mark.parametrize(
    ("optimizer", "precision"), [("sgd", "fp16"), ("adamw", "bf16"), ("muon", "fp32"), ("adamw", "fp16")]
)
def test_a_resumed_run_equals_an_uninterrupted_run(
    photos: Path, tmp_path: Path, tiny: dict, optimizer: str, precision: str
) -> None:
    settings = {"optim.name": optimizer, "train.epochs": 4, "schedule.name": "constant", "optim.lr": 0.01}
    settings["train.precision"] = precision
    whole = sightline.train(base(tiny, **settings), photos, out=tmp_path / "whole", quiet=True)
    half = sightline.train(base(tiny, **settings | {"train.epochs": 2}), photos, out=tmp_path / "half", quiet=True)
    longer = sightline.resume(half.path, quiet=True, **{"train.epochs": 4})
    assert same(weights(whole.path), weights(longer.path))
    steps = [r["step"] for r in read_json_lines(half.path / "metrics.jsonl") if r["event"] == "eval"]
    assert steps == sorted(set(steps)) and len(steps) == 4


@pytest.mark.parametrize("settings", [{}, {"augment.mixup": 0.5, "optim.ema": 0.9, "loss.name": "asymmetric"}])
def test_a_resumed_run_of_label_sets_equals_an_uninterrupted_run(
    quarters: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    config = configured(SETTINGS | settings | {"schedule.name": "constant", "report.samples": 0})
    whole = sightline.train(config, quarters, out=tmp_path / "whole", quiet=True, **{"train.epochs": 4})
    half = sightline.train(config, quarters, out=tmp_path / "half", quiet=True)
    longer = sightline.resume(half.path, quiet=True, **{"train.epochs": 4})
    assert same(weights(whole.path), weights(longer.path))
    for name in ("thresholds.json", "predictions/val.csv", "splits.csv"):
        assert (whole.path / name).read_bytes() == (longer.path / name).read_bytes()


def test_extend_stretches_the_schedule_or_continues_its_last_rate(copies: Copies, tmp_path: Path) -> None:
    stretched, kept = copies(tmp_path / "stretched", "falling"), copies(tmp_path / "kept", "falling")
    sightline.resume(stretched, quiet=True, **{"train.epochs": 4})
    sightline.resume(kept, extend="continue", quiet=True, **{"train.epochs": 4})

    def rates(folder: Path) -> list[float]:
        return [r["lr"] for r in read_json_lines(folder / "metrics.jsonl") if r["event"] == "train" and r["epoch"] > 2]

    assert rates(stretched)[0] == pytest.approx(0.05 * (1 - 0.9 * 14 / 27))
    assert rates(kept) == pytest.approx([0.005] * len(rates(kept)))


def test_resuming_with_changed_data_is_an_error(make_photos, tmp_path: Path, tiny: dict) -> None:
    data = make_photos(tmp_path / "data")
    run = sightline.train(base(tiny), data, out=tmp_path / "run", quiet=True)
    image = next((data / "train" / "class_0").iterdir())
    shutil.copy(next((data / "train" / "class_1").iterdir()), image)
    os.utime(image, ns=(1, 1))
    with pytest.raises(SightlineError, match="the data has changed"):
        sightline.resume(run.path, quiet=True, **{"train.epochs": 4})


def test_resuming_a_finished_run_does_nothing(copies: Copies, tmp_path: Path) -> None:
    run = sightline.Run(copies(tmp_path / "run"))
    before = (run.path / "metrics.jsonl").read_bytes()
    assert sightline.resume(run.path, quiet=True).metrics == run.metrics
    assert (run.path / "metrics.jsonl").read_bytes() == before


class Crash(BaseException):
    """Simulated end of the process."""


def crash(*_: object, **__: object) -> None:
    raise Crash


@pytest.mark.parametrize("extend", ["stretch", "continue"])
def test_extending_a_run_survives_a_crash_at_any_write(copies: Copies, tmp_path: Path, extend: str) -> None:
    whole = sightline.resume(copies(tmp_path / "whole", "falling"), extend=extend, quiet=True, **{"train.epochs": 4})
    writes = [(setup, "record_resume"), (run_folder, "write_config"), (training_state, "save_state")]
    for number, (module, name) in enumerate(writes):
        cut = copies(tmp_path / f"cut-{number}", "falling")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, crash)
            with pytest.raises(Crash):
                sightline.resume(cut, extend=extend, quiet=True, **{"train.epochs": 4})
        again = {} if name == "save_state" else {"train.epochs": 4}  # already in recipe.yaml when the state is saved
        sightline.resume(cut, quiet=True, **({"extend": extend} | again if again else {}))
        assert same(weights(cut), weights(whole.path)), name


def test_a_continued_schedule_is_kept_when_resumed_again(
    copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, cut = copies(tmp_path / "run", "falling"), copies(tmp_path / "cut", "falling")
    sightline.resume(run, extend="continue", quiet=True, **{"train.epochs": 4})
    saves, save = [], training_state.save_state

    def crash_at_second_save(training: object) -> None:
        saves.append(1)
        save(training)
        if len(saves) == 2:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(training_state, "save_state", crash_at_second_save)
        with pytest.raises(Crash):
            sightline.resume(cut, extend="continue", quiet=True, **{"train.epochs": 4})
    sightline.resume(cut, quiet=True)
    assert same(weights(run), weights(cut))


def test_progressive_sizes_and_mixing_follow_the_length_of_the_schedule(
    photos: Path, tmp_path: Path, tiny: dict
) -> None:
    settings = FALLING | {"augment.progressive": ((8, 0.5),), "augment.mixup": 0.2, "augment.mix_until": 0.5}
    settings |= {"model.name": "fastnet", "model.args": {"widths": [8, 16, 16]}}
    config = base(tiny, **settings | {"train.epochs": 4, "schedule.total_epochs": 2})
    plain = base(tiny, **settings)
    sides = [training_side(config, epoch) for epoch in range(4)]
    assert sides == [8, 16, 16, 16] and [training_side(plain, epoch) for epoch in range(2)] == [8, 16]
    whole = sightline.train(config, photos, out=tmp_path / "whole", quiet=True)
    half = sightline.train(plain, photos, out=tmp_path / "half", quiet=True)
    sightline.resume(half.path, extend="continue", quiet=True, **{"train.epochs": 4})
    assert same(weights(whole.path), weights(half.path))


def test_continuing_at_a_learning_rate_of_zero_is_an_error(photos: Path, tmp_path: Path, tiny: dict) -> None:
    settings = {"schedule.name": "linear", "schedule.final_factor": 0.0}
    run = sightline.train(base(tiny, **settings), photos, out=tmp_path / "run", quiet=True)
    with pytest.raises(SightlineError, match="no effect") as caught:
        sightline.resume(run.path, extend="continue", quiet=True, **{"train.epochs": 4})
    assert "--extend stretch" in caught.value.cure


def test_changes_in_recipe_yaml_are_checked(copies: Copies, tmp_path: Path) -> None:
    run = sightline.Run(copies(tmp_path / "run"))
    recipe = run.path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("lr: 0.05", "lr: 0.5"))
    with pytest.raises(SightlineError, match="cannot change") as caught:
        sightline.resume(run.path, quiet=True, **{"train.epochs": 4})
    assert "optim.lr: 0.05 -> 0.5" in caught.value.why


def test_provenance_records_every_resume(copies: Copies, tmp_path: Path) -> None:
    run = sightline.Run(copies(tmp_path / "run"))
    before = json.loads((run.path / "provenance.json").read_text())
    sightline.resume(run.path, quiet=True, **{"train.epochs": 4})
    after = json.loads((run.path / "provenance.json").read_text())
    assert after["train_flops"] == 2 * before["train_flops"] == run.metrics["train_flops"]
    (entry,) = after["resumes"]
    assert entry["step"] == 14 and entry["changed"] == {"train.epochs": [2, 4]}


def test_resuming_writes_a_missing_architecture_file(copies: Copies, tmp_path: Path) -> None:
    run = copies(tmp_path / "run")
    drawn = (run / "architecture.json").read_bytes()
    (run / "architecture.json").unlink()
    sightline.resume(run, quiet=True, **{"train.epochs": 3})
    assert (run / "architecture.json").read_bytes() == drawn


def test_a_run_that_stopped_early_prints_how_to_continue(
    photos: Path, tmp_path: Path, tiny: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"train.epochs": 50, "train.patience": 1, "optim.lr": 1e-9, "schedule.name": "constant"}
    settings["model.args"] = {}
    run = sightline.train(base(tiny, **settings), photos, out=tmp_path / "run")
    assert "stopped after epoch 2: no better accuracy for 1 epoch" in capsys.readouterr().out
    run.report.unlink()
    sightline.resume(run.path)
    output = capsys.readouterr().out
    assert "--train.patience 2" in output and "no better accuracy" in output
    assert run.report.is_file(), "a missing report is written"
    sightline.resume(run.path, quiet=True, **{"train.patience": 2})
    assert run.metrics["epoch"] == 3


def test_the_path_of_moved_data_can_be_changed(
    make_photos, tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photos(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    run = sightline.train(base(tiny), "data", out=tmp_path / "run", quiet=True)
    assert load_recipe_file(run.path / "recipe.yaml").data.path == str(tmp_path / "data")
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(SightlineError, match="no such file or folder"):
        sightline.resume(run.path, quiet=True, **{"train.epochs": 3})
    sightline.resume(run.path, quiet=True, **{"train.epochs": 3, "data.path": "moved"})
    assert run.metrics["epoch"] == 3


def test_a_new_test_split_does_not_prevent_a_resume(make_photos, tmp_path: Path, tiny: dict) -> None:
    data = make_photos(tmp_path / "data")
    run = sightline.train(base(tiny), data, out=tmp_path / "run", quiet=True)
    make_photos(data, train=0, val=0, test=4)
    sightline.resume(run.path, quiet=True, **{"train.epochs": 3})
    assert run.metrics["epoch"] == 3


def test_resuming_with_other_threads_is_reported_as_not_bit_identical(
    photos: Path, tmp_path: Path, tiny: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sightline.train(base(tiny, **{"train.epochs": 1}), photos, out=tmp_path / "run", quiet=True).path
    sightline.resume(run, **{"train.epochs": 2})
    assert "bit-identical" not in capsys.readouterr().out
    for threads, note in ((2, "step 14 on: threads 1 -> 2"), (2, ""), (1, "step 28 on: threads 2 -> 1")):
        epochs = load_recipe_file(run / "recipe.yaml").train.epochs + 1
        sightline.resume(run, **{"train.epochs": epochs, "train.threads": threads})
        output = capsys.readouterr().out
        assert f"not bit-identical to an uninterrupted run, from {note}" in output if note else "bit-iden" not in output
    notes = [note for note in json.loads((run / "provenance.json").read_text())["notes"] if "bit-identical" in note]
    assert len(notes) == 2 and "bit-identical" in (run / "report.html").read_text()


def test_the_note_on_rounding_lists_the_changes() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    first = {"device": "A", "threads": 2, "processes": 1, "versions": {"torch": "2.11"}}
    assert rounding_note(first, {"step": 5} | first, cpu) == ""
    other = {"step": 1005, "device": "B", "threads": 4, "processes": 3, "versions": {"torch": "2.12"}}
    found = rounding_note(first, other, cpu)
    assert found.endswith("from step 1,005 on: device A -> B, processes 1 -> 3, torch 2.11 -> 2.12, threads 2 -> 4")
    code = {"git_commit": "a1", "versions": {"torch": "2.11", "sightline-vision": "1", "openTSNE": "1"}}
    newer = {"step": 5, "git_commit": "b2", "versions": {"torch": "2.11", "sightline-vision": "2", "openTSNE": "2"}}
    found = rounding_note(first | code, first | newer, cpu)
    assert found.endswith("step 5 on: sightline-vision 1 -> 2, git_commit a1 -> b2"), (
        "t-SNE does not affect the weights"
    )
    found = rounding_note(first, first | {"step": 5}, gpu)
    assert found.endswith("from step 5 on: computed on cuda, where the order of sums is not fixed")
    assert rounding_note(first | {"resumes": [other]}, other, cpu) == "", "compared with the previous resume"
    assert rounding_note({"threads": 2}, {"step": 5} | first, cpu) == "", "older runs recorded fewer fields"


def test_the_precision_that_was_chosen_is_recorded_and_kept(
    photos: Path, tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    auto = base(tiny, **{"train.epochs": 1, "train.precision": "auto"})
    monkeypatch.setattr(device, "has_bfloat16", lambda: True)
    monkeypatch.setattr(device, "step_gain", lambda *_: 2.0)
    first = sightline.train(auto, photos, out=tmp_path / "first", quiet=True).path
    assert load_recipe_file(first / "recipe.yaml").train.precision == "bf16"
    record = json.loads((first / "provenance.json").read_text())
    assert (record["precision"], record["precision_setting"]) == ("bf16", "auto")
    monkeypatch.setattr(device, "step_gain", lambda *_: 0.5)  # measured while other programs run
    again = sightline.train(str(first / "recipe.yaml"), out=tmp_path / "again", quiet=True).path
    assert same(weights(first), weights(again))
    assert json.loads((again / "provenance.json").read_text())["precision_setting"] == "bf16"
    asked = resolve(load_recipe_file(first / "recipe.yaml"), {"train.precision": "auto"})
    assert run_folder.differences(load_recipe_file(first / "recipe.yaml"), asked) == [], "as in a grid"
    assert holds_run_of(first, asked) and not holds_run_of(first, resolve(asked, {"train.precision": "fp32"}))
    capsys.readouterr()
    sightline.resume(first, **{"train.precision": "auto", "train.epochs": 2})
    assert "saved: train.epochs 1 -> 2\n" in capsys.readouterr().out
    assert load_recipe_file(first / "recipe.yaml").train.precision == "bf16"
    with pytest.raises(SightlineError, match="cannot change"):
        sightline.resume(first, **{"train.precision": "fp32", "train.epochs": 3})


@pytest.mark.parametrize("text", ['{"precision": "fp30"}', '{"precision": ["fp32"]}', '{"precision": null}'])
def test_an_invalid_precision_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "provenance.json").write_text(text)  # one flipped bit turns fp32 into fp30
    with pytest.raises(SightlineError, match="unknown precision") as caught:
        precision_of(tmp_path)
    assert "provenance.json" in str(caught.value) and "fp32" in caught.value.cure
    (tmp_path / "provenance.json").write_text("{")
    assert precision_of(tmp_path, "") == ""
