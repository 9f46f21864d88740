"""The command line: fast help, one message for an error of the user, exit statuses."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sightline
from sightline.__main__ import run, split_settings


def test_help_and_recipes_do_not_import_torch() -> None:
    code = (
        "import sys; from sightline.__main__ import run; run(['--help']); run(['recipes']); "
        "run(['recipes', 'vgg13_scratch']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "vgg13_scratch" in done.stdout and "0.7454" in done.stdout


def test_settings_are_split_from_other_arguments() -> None:
    tokens = ["train", "x", "--data", "p", "--optim.lr", "-0.1", "--augment.crop=random", "--optim.nesterov", "--quiet"]
    left, settings = split_settings(tokens)
    assert left == ["train", "x", "--data", "p", "--quiet"]
    assert settings == {"optim.lr": "-0.1", "augment.crop": "random", "optim.nesterov": "true"}


def test_names_of_classes_keep_their_hyphens() -> None:
    tokens = ["--data.colors.bare-soil=[1,2,3]", "--data.val-fraction", "0.2", "--loss.terms.my-loss", "1"]
    assert list(split_settings(tokens)[1]) == ["data.colors.bare-soil", "data.val_fraction", "loss.terms.my-loss"]


MISTAKES: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "no such command": (lambda p: ["trian", "x"], "train"),
    "no recipe and no data": (lambda p: ["train"], "--data PATH"),
    "unknown recipe": (lambda p: ["train", "vgg13", "--data", str(p)], "vgg13_scratch"),
    "unknown setting": (lambda p: ["train", "digits", "--optim.lrr", "1"], "optim.lr"),
    "wrong value": (lambda p: ["train", "digits", "--train.epochs", "many"], "train.epochs"),
    "no data": (lambda p: ["train", "vgg13_scratch"], "--data"),
    "no such folder": (lambda p: ["train", "vgg13_scratch", "--data", str(p / "nowhere")], "nowhere"),
    "no images": (lambda p: ["train", "vgg13_scratch", "--data", str(p / "empty")], "1 .txt file"),
    "csv names a missing file": (lambda p: ["train", "vgg13_scratch", "--data", str(p / "labels.csv")], "gone.png"),
    "setting for the wrong command": (lambda p: ["evaluate", "x", "--optim.lr", "1"], "transfer and sweep"),
    "not a run": (lambda p: ["resume", str(p / "empty")], "not a run"),
    "a setting without its section": (lambda p: ["train", "digits", "--lr", "1"], "--optim.lr"),
    "a setting twice": (lambda p: ["train", "digits", "--optim.lr", "1", "--optim.lr=2"], "given twice"),
    "data twice": (lambda p: ["train", "digits", "--data", "a", "--data.path", "b"], "given twice"),
    "a setting that a score ignores": (
        lambda p: ["score", "--truth", "a", "--pred", "b", "--data.size", "3"],
        "data.size",
    ),
    "a palette twice": (
        lambda p: ["score", "--truth", "a", "--pred", "b", "--palette", "x", "--data.palette", "y"],
        "both given",
    ),
    "a list without brackets": (lambda p: ["train", "digits", "--data.classes", "a,b"], "[a,b]"),
    "a part of a run": (lambda p: ["predict", str(p / "labels.csv"), str(p), "--out", "x.csv"], "it is a file"),
    "fraction of a pixel": (
        lambda p: ["predict", "run", str(p), "--out", "masks", "--tile", "37.5"],
        "not a whole number",
    ),
    "rotations of a classifier": (lambda p: ["train", "digits", "--train.turn_test", "true"], "for segmentation"),
    "windows of a classifier": (lambda p: ["train", "digits", "--augment.window", "[8,8]"], "for segmentation"),
    "missing cache folder": (lambda p: ["cache", "--folder", str(p / "nowhere")], "data.cache_dir"),
    "sam_from without sam_radius": (lambda p: ["train", "digits", "--optim.sam_from", "0.5"], "optim.sam_radius"),
    "unknown model": (lambda p: ["train", "digits", "--model.name", "resnet19"], "resnet18"),
    "bad data name": (lambda p: ["train", "digits", "--data", "sklearn:digitz"], "digits"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_user_errors_have_one_message_and_status_2(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no images here")
    (tmp_path / "labels.csv").write_text("id,filename,label\n1,gone.png,cat\n2,lost.png,dog\n")
    tokens, expected = MISTAKES[mistake]
    assert run(tokens(tmp_path)) == 2
    error = capsys.readouterr().err
    assert expected in error and "cure:" in error and "Traceback" not in error
    if mistake == "csv names a missing file":
        assert "lost.png" in error, "all missing files are listed"


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_a_read_only_folder_has_status_3(
    error: OSError, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The errors are simulated, because file modes do not apply to root."""
    make = os.mkdir

    def failing_mkdir(path: str, *rest: object, **more: object) -> None:
        if str(path).startswith(str(tmp_path / "run")):
            raise error
        make(path, *rest, **more)

    monkeypatch.setattr(os, "mkdir", failing_mkdir)
    assert run(["train", "digits", "--out", str(tmp_path / "run")]) == 3
    error_text = capsys.readouterr().err
    assert str(tmp_path / "run") in error_text and "cure:" in error_text and "Traceback" not in error_text


def test_start_takes_the_data_as_its_argument_and_as_an_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cures of errors about data name the option."""
    given: list[str] = []

    def start(data: str, **options: object) -> None:
        given.append(data)

    monkeypatch.setattr(sightline, "start", start)
    assert run(["start", "photos"]) == run(["start", "--data", "photos"]) == 0
    assert given == ["photos", "photos"]
    assert run(["start", "photos", "--data", "other"]) == 2


def test_a_path_below_a_file_has_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["train", "digits", "--out", str(tmp_path / "file" / "run")]) == 2
    assert "cure:" in capsys.readouterr().err


def test_ctrl_c_during_an_import_has_status_4(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(name: str | None, all: bool, code: Path | None) -> str:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("numpy could not be imported") from error

    monkeypatch.setattr(importlib.import_module("sightline.recipes.listing"), "recipes", interrupted)
    assert run(["recipes"]) == 4
    error = capsys.readouterr().err
    assert "Traceback" not in error and "stopped immediately" in error
