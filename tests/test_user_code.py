"""A file of the user's own code: what it adds, the copy in a run, and the errors in it."""

import importlib
import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import sightline
from config_toys import configured
from sightline import SightlineError
from sightline.__main__ import run as run_command
from sightline.config.strict_yaml import dump_yaml
from sightline.data.augment.own import AUGMENTATIONS
from sightline.engine.optim import OPTIMIZERS
from sightline.models import MODELS
from sightline.models.segmenters import SEGMENTERS
from sightline.recipes import RECIPES
from sightline.runs.code_file import LOADED
from sightline.sweep import child
from sightline.sweep.trial import CODE_VARIABLE, log_file
from sightline.tasks import TASKS
from sightline.tasks.classify.losses import LOSSES
from sightline.tasks.multilabel.losses import LOSSES as LABEL_SET_LOSSES
from sightline.tasks.segment.losses import LOSSES as SEGMENT_LOSSES
from sightline.user_code import loaded

pytestmark = pytest.mark.usefixtures("quick_figures")

PARTS = '''"""Parts of the tests."""

import torch
from torch import nn
from torch.nn import functional

from sightline.recipes.classify import small_cnn_scratch


def gray_net(size, width=8):
    return nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def squared(logits, targets, weights=None):
    return (logits.softmax(1) - functional.one_hot(targets, logits.shape[1])).square().mean()


def darker(images, draw):
    return images * draw(1)[:, :, None, None]


def rmsprop(groups, optim):
    return torch.optim.RMSprop(groups, lr=optim.lr)


def mine():
    """A recipe of the tests."""
    return small_cnn_scratch().model_copy(update={"name": "mine"})


MODELS = {"gray_net": gray_net}
LOSSES = {"squared": squared}
AUGMENTATIONS = {"darker": darker}
OPTIMIZERS = {"rmsprop": rmsprop}
RECIPES = {"mine": mine}
'''
CHOSEN = {
    "model.name": "gray_net",
    "model.args": {"width": 4},
    "loss.name": "squared",
    "augment.own": "darker",
    "optim.name": "rmsprop",
    "optim.lr": 1e-3,
}
OURS = (MODELS, SEGMENTERS, LOSSES, LABEL_SET_LOSSES, SEGMENT_LOSSES, AUGMENTATIONS, OPTIMIZERS, RECIPES, TASKS)


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """After each test, the dicts of Sightline are as before, and no file is loaded."""
    before = [dict(ours) for ours in OURS]
    yield
    assert [dict(ours) for ours in OURS] == before and not LOADED


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("code") / "my_parts.py"
    path.write_text(PARTS)
    return path


@pytest.fixture(scope="module")
def trained(parts: Path, photos: Path, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> sightline.Run:
    """A run whose model, loss, augmentation and optimizer are in `parts`."""
    out = tmp_path_factory.mktemp("own") / "run"
    return sightline.train("mine", photos, out=out, quiet=True, code=parts, **tiny | CHOSEN)


def written(folder: Path, text: str, name: str = "bad.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refused(code: Path) -> SightlineError:
    """The error of loading a file."""
    with pytest.raises(SightlineError) as caught, loaded(code):
        pass
    return caught.value


def test_a_run_keeps_a_copy_of_the_code_and_its_digest(trained: sightline.Run, parts: Path) -> None:
    copy = trained.path / "code" / "my_parts.py"
    assert copy.read_bytes() == parts.read_bytes() and trained.metrics["epoch"] == 2
    record = json.loads((trained.path / "provenance.json").read_text())["code"]
    assert record["file"] == "my_parts.py" and len(record["sha256"]) == 64
    recipe = (trained.path / "recipe.yaml").read_text()
    assert "name: gray_net" in recipe and "name: rmsprop" in recipe and "darker" in recipe


def test_commands_work_with_the_copy(trained: sightline.Run, photos: Path, tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "run" / "code" / "my_parts.py"
    shutil.copytree(trained.path, run)
    assert sightline.evaluate(run, quiet=True, code=copy)["loss"] == pytest.approx(trained.metrics["loss"], rel=1e-5)
    table = sightline.predict(run, photos / "val", out=tmp_path / "p.csv", quiet=True, code=copy)
    assert len(table.read_text().splitlines()) == 17
    assert sightline.report(run, code=copy).is_file()
    assert sightline.resume(run, quiet=True, code=copy, **{"train.epochs": 3}).metrics["epoch"] == 3
    again = sightline.train(str(run / "recipe.yaml"), out=run, overwrite=True, quiet=True, code=copy)
    assert (again.path / "code" / "my_parts.py").read_text() == PARTS, "the copy replaces itself"
    exported = sightline.export(run, format="safetensors", out=tmp_path / "e", quiet=True, code=copy)
    with pytest.raises(SightlineError, match="code of your own"):
        sightline.evaluate(exported, data=photos)
    assert sightline.evaluate(exported, data=photos, quiet=True, code=exported / "code" / "my_parts.py")["images"] == 16


COMMANDS: dict[str, tuple[Any, ...]] = {
    "resume": (),
    "evaluate": (),
    "predict": ("photos",),
    "report": (),
    "export": (),
    "serve": (),
    "doctor": (),
    "train": (),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_on_the_run_asks_for_the_code(
    trained: sightline.Run, parts: Path, photos: Path, tmp_path: Path, command: str
) -> None:
    run = trained.path / "recipe.yaml" if command == "train" else trained.path
    options: dict[str, Any] = {"predict": {"out": tmp_path / "p.csv"}, "doctor": {"out": tmp_path}}.get(command, {})
    options |= {} if command == "report" else {"quiet": True}
    call = lambda code: getattr(sightline, command)(str(run), *COMMANDS[command], code=code, **options)  # noqa: E731
    with pytest.raises(SightlineError, match="trained with code of your own") as caught:
        call(None)
    assert "my_parts.py" in caught.value.why and f"--code {trained.path}/code/my_parts.py" in caught.value.cure
    with pytest.raises(SightlineError, match="trained with other code") as caught:
        call(written(tmp_path, PARTS + "\n", "my_parts.py"))
    assert "SHA-256" in caught.value.why and str(trained.path / "code" / "my_parts.py") in caught.value.cure


def test_weights_of_the_run_are_used_without_its_code(
    trained: sightline.Run, photos: Path, parts: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """Weights are tensors only: the own model is named again, and the run of the weights asks for nothing."""
    code = written(tmp_path, PARTS + "\n", "other.py")
    settings = tiny | CHOSEN | {"model.weights": str(trained.path), "train.epochs": 1}
    found = sightline.train("mine", photos, out=tmp_path / "next", quiet=True, code=code, **settings)
    assert json.loads((found.path / "provenance.json").read_text())["weights"]["share"] == 1


def marking(folder: Path) -> tuple[Path, str]:
    """(a file that exists if the text of code was executed, the text)."""
    return folder / "executed", f"open({str(folder / 'executed')!r}, 'w').close()\nMODELS = {{}}\n"


@pytest.mark.parametrize("where", ["run", "checkpoint", "recipe"])
def test_code_is_never_loaded_by_itself(
    photos: Path, tiny: dict[str, Any], tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, text = marking(tmp_path)
    monkeypatch.chdir(tmp_path)
    written(tmp_path, text, "x.py")
    if where == "recipe":
        recipe = written(tmp_path, "task: classify\ncode: x.py\n", "mine.yaml")
        with pytest.raises(SightlineError, match="there is no setting 'code'"):
            sightline.train(str(recipe), photos, quiet=True)
        assert not marker.exists()
        return
    run = sightline.train(configured(tiny | {"train.epochs": 1}), photos, out=tmp_path / "run", quiet=True)
    if where == "run":
        (run.path / "code").mkdir()
        written(run.path / "code", text, "x.py")
        record = json.loads((run.path / "provenance.json").read_text())
        (run.path / "provenance.json").write_text(json.dumps(record | {"code": {"file": "x.py", "sha256": "0" * 64}}))
        for call in (sightline.evaluate, sightline.report, sightline.resume, sightline.doctor):
            with pytest.raises(SightlineError, match="code of your own"):
                call(run.path)
    else:
        described = run.path / "checkpoints" / "best" / "config.json"
        values = json.loads(described.read_text())
        described.write_text(json.dumps(values | {"code": "x.py", "model": values["model"] | {"code": "x.py"}}))
        with pytest.raises(SightlineError, match="model description does not belong to the weights"):
            sightline.evaluate(run.path, quiet=True)
        sightline.train(
            configured(tiny | {"model.weights": str(described.parent)}), photos, out=tmp_path / "b", quiet=True
        )
    assert not marker.exists()


def test_recipes_of_the_file_are_listed(parts: Path) -> None:
    assert "mine" in sightline.recipes(code=parts) and "A recipe of the tests." in sightline.recipes(code=parts)
    assert "mine" not in sightline.recipes()
    assert sightline.recipes("mine", code=parts).startswith("# A recipe of the tests.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n", "SyntaxError"),
        ("x = 1\ny = x / 0\n", "line 2, in <module>\n        y = x / 0\n    ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)\n", "SystemExit"),
        ("x = 1\n", "this file adds nothing"),
        ("MODLES = {}\n", "did you mean MODELS?"),
        ("MODELS = []\n", "MODELS must be a dict"),
        ("MODELS = {1: print}\n", "1 in MODELS is not a valid name"),
        ("MODELS = {'timm/x': print}\n", "'timm/x' in MODELS is not a valid name"),
        ("MODELS = {'a': 3}\n", "MODELS['a'] is not a function"),
        ("MODELS = {'a': lambda width: None}\n", "Sightline calls it with (size)"),
        ("MODELS = {'resnet18': lambda size: None}\n", "Sightline has 'resnet18' in MODELS already"),
        ("LOSSES = {'dice': lambda logits, targets, weights: None}\n", "Sightline has 'dice' in LOSSES already"),
        ("LOSSES = {'a': lambda logits, targets: None}\n", "(logits, targets, weights=None)"),
        ("OPTIMIZERS = {'a': lambda parameters: None}\n", "(groups, optim)"),
        ("AUGMENTATIONS = {'a': lambda images: None}\n", "(images, draw)"),
        ("TASKS = {'a': lambda: None}\n", "TASKS['a'] is not the task 'a'"),
        ("MODELS = {'a': lambda size: None}\nRECIPES = {'digits': lambda: None}\n", "'digits' in RECIPES already"),
    ],
)
def test_a_wrong_file_is_an_error_and_adds_nothing(tmp_path: Path, text: str, message: str) -> None:
    error = refused(written(tmp_path, text))
    assert message in str(error) and error.status == 2 and "bad.py" in error.where and error.cure


@pytest.mark.parametrize("content", [b"x = 1\0\n", b"x = '\xff'\n", b"\x89PNG\r\n\x1a\n\0"])
def test_a_file_that_is_not_text_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.py"
    path.write_bytes(content)
    assert refused(path).status == 2


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert "cannot read the code" in str(refused(tmp_path / "no.py"))


def test_one_file_is_loaded_at_a_time_and_commands_can_call_others(parts: Path, tmp_path: Path) -> None:
    with loaded(parts), loaded(None), loaded(parts):
        assert "gray_net" in MODELS and "squared" in LOSSES and "squared" in SEGMENT_LOSSES
        assert "another file of code is loaded" in str(inner(written(tmp_path, PARTS + "\n")))
        assert "gray_net" in MODELS


def inner(code: Path) -> SightlineError:
    """The error of loading a second file."""
    with pytest.raises(SightlineError) as caught, loaded(code):
        pass
    return caught.value


def test_an_error_in_training_has_the_lines_of_the_file(
    photos: Path, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PARTS.replace("def squared", "def wrong(logits):\n    return logits.men()\n\n\ndef squared")
    code = written(
        tmp_path, text.replace("    return (logits.softmax", "    wrong(logits)\n    return (logits.softmax")
    )
    options = [token for key, value in (tiny | CHOSEN).items() for token in (f"--{key}", json.dumps(value).strip('"'))]
    arguments = ["--data", str(photos), "--out", str(tmp_path / "run"), "--quiet", "--code", str(code)]
    assert run_command(["train", "mine", *arguments, *options]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("sightline: your code raised an error") and "Traceback" not in shown
    assert "in squared\n        wrong(logits)\n    line" in shown and "in wrong\n        return logits.men()" in shown
    assert "AttributeError" in shown and "site-packages" not in shown
    assert "in add_gradients" not in shown and "in loss_of" not in shown, "only lines of the file"
    assert run_command(["train", "mine", *arguments, "--overwrite", *options, "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_loss_that_is_no_scalar_is_an_error(photos: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    text = "def squared(logits, targets, weights=None):\n    return (logits.softmax(1) ** 2).sum(1)\n\n\n"
    code = written(tmp_path, text + "LOSSES = {'squared': squared}\n")
    with pytest.raises(SightlineError, match="the loss of a batch is not a scalar") as caught:
        sightline.train("photos_scratch", photos, out=tmp_path / "run", quiet=True, code=code,
                        **tiny, **{"loss.name": "squared", "loss.smoothing": 0.0})  # fmt: skip
    assert "loss.mean()" in caught.value.cure


def test_an_error_in_building_the_model_keeps_its_message(photos: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    code = written(tmp_path, PARTS.replace("return nn.Sequential(nn.Conv2d(3", "return nn.Sequential(nn.Conv2d('3'"))
    with pytest.raises(SightlineError, match="cannot be built with these arguments") as caught:
        sightline.train("mine", photos, out=tmp_path / "run", quiet=True, code=code, **tiny | CHOSEN)
    assert "bad.py" in caught.value.why and "in gray_net" in caught.value.why


def test_a_model_that_returns_a_map_of_features_is_told_what_to_return(
    photos: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    code = written(tmp_path, PARTS.replace(", nn.AdaptiveAvgPool2d(1), nn.Flatten())", ")"))
    with pytest.raises(SightlineError, match="one feature vector per image") as caught:
        sightline.train("mine", photos, out=tmp_path / "run", quiet=True, code=code, **tiny | CHOSEN)
    assert "(1, 4, 8, 8)" in caught.value.why
    assert "maps.mean((2, 3))" in caught.value.cure and "global_pool" not in caught.value.cure


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SightlineError("a message", status=4), ValueError("ours")])
def test_other_errors_pass_unchanged(parts: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, loaded(parts):
        raise error
    assert caught.value is error


def test_an_error_of_sightline_that_the_file_calls_names_both(tmp_path: Path) -> None:
    text = "from sightline.stats.metrics import top_k\nMODELS = {'a': lambda size: 1}\nbad = top_k(1, 2, 3)\n"
    error = refused(written(tmp_path, text))
    assert "line 3, in <module>" in error.why and "which called top_k in sightline/stats/metrics.py" in error.why


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment.own": "x"}, "there is no augmentation 'x'"),
        ({"augment.own": "darker,darker"}, "an augmentation is given twice"),
        ({"optim.name": "x"}, "there is no optimizer 'x'"),
        ({"loss.name": "x"}, "there is no loss 'x'"),
        ({"model.name": "x"}, "unknown model 'x'"),
        ({"loss.smoothing": 0.1}, "this loss has no label smoothing"),
    ],
)
def test_names_are_checked_before_any_data_are_read(
    parts: Path, tiny: dict[str, Any], tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SightlineError, match=message) as caught:
        sightline.train("mine", tmp_path / "none", quiet=True, code=parts, **tiny | CHOSEN | settings)
    assert caught.value.cure


def test_an_unknown_name_without_a_file_mentions_the_option(photos: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    for setting in ("model.name", "loss.name", "augment.own", "optim.name"):
        with pytest.raises(SightlineError) as caught:
            sightline.train(configured(tiny), photos, out=tmp_path / "run", quiet=True, **{setting: "xyzzy"})
        assert "--code FILE" in caught.value.cure, setting
    with pytest.raises(SightlineError, match="there is no task 'xyzzy'") as caught:
        sightline.train(str(written(tmp_path, "task: xyzzy\n", "r.yaml")), photos, quiet=True)
    assert "--code FILE" in caught.value.cure


def test_a_segmenter_and_an_augmentation_of_ones_own(toy: Any, make_scenes: Any, parts: Path, tmp_path: Path) -> None:
    text = PARTS + (
        "from sightline.models.segmenters import build_unet\n"
        "def thin(classes):\n    return build_unet(classes, width=8, blocks=[1, 1, 1, 1], decoder=[16, 16, 16])\n"
        "SEGMENTERS = {'thin': thin}\n"
        "def pixels(logits, targets, weights=None):\n"
        "    return functional.cross_entropy(logits.float(), targets.long(), ignore_index=255)\n"
        "LOSSES = {'pixels': pixels}\n"
    )
    code, scenes = written(tmp_path, text), make_scenes(tmp_path / "scenes", train=4, val=2)
    settings = {"model.name": "thin", "model.args": {}, "loss.name": "pixels", "augment.own": ("darker",)}
    config = toy(**settings | {"train.epochs": 1})
    run = sightline.train(config, scenes, out=tmp_path / "run", quiet=True, code=code)
    assert run.metrics["mean_iou"] >= 0


def test_pretraining_with_a_model_of_ones_own(small: Any, photos: Path, parts: Path, tmp_path: Path) -> None:
    settings = {"model.name": "gray_net", "model.args": {"width": 4}, "augment.own": ("darker",), "train.epochs": 1}
    run = sightline.train(small(**settings), photos, out=tmp_path / "run", quiet=True, code=parts)
    assert run.metrics["epoch"] == 1


def test_trials_of_a_sweep_load_the_code_of_the_sweep(
    parts: Path, photos: Path, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process of a trial gets the path of the copy in the folder of the sweep."""
    started: list[dict[str, str]] = []

    class Done:
        def __init__(self, folder: Path, environment: dict[str, str]):
            started.append(environment)
            monkeypatch.setenv(CODE_VARIABLE, environment[CODE_VARIABLE])
            file = LOADED.pop()  # as in another process
            added = {name: MODELS.pop(name) for name in ("gray_net",)}
            RECIPES["mine"], kept = RECIPES["mine"], [dict(ours) for ours in OURS]
            for ours in (LOSSES, LABEL_SET_LOSSES, SEGMENT_LOSSES, AUGMENTATIONS, OPTIMIZERS, RECIPES):
                for name in {"squared", "darker", "rmsprop", "mine"} & ours.keys():
                    del ours[name]
            try:
                result = child.train_trial(folder)
            finally:
                LOADED.append(file)
                for ours, before in zip(OURS, kept, strict=True):
                    ours.update(before)
                MODELS.update(added)
            log_file(folder, "json").write_text(json.dumps(result))

        def poll(self) -> int:
            return 0

        def terminate(self) -> None: ...

    monkeypatch.setattr(importlib.import_module("sightline.sweep.scheduler"), "start_process", Done)
    settings = tiny | CHOSEN | {"train.epochs": 1, "optim.lr": "1e-3,1e-2", "report.samples": 0}
    found = sightline.sweep("mine", photos, out=tmp_path / "sweep", quiet=True, code=parts, **settings)
    assert [row["state"] for row in found.trials] == ["complete", "complete"]
    assert Path(started[0][CODE_VARIABLE]) == tmp_path / "sweep" / "code" / "my_parts.py"
    assert found.best is not None and (found.best.path / "code" / "my_parts.py").read_text() == PARTS
    changed = written(tmp_path, PARTS + "\n", "my_parts.py")
    with pytest.raises(SightlineError, match="contains another sweep"):
        sightline.sweep("mine", photos, out=tmp_path / "sweep", quiet=True, code=changed, **settings)


def test_an_optimizer_of_ones_own_gets_the_parameter_groups(parts: Path) -> None:
    from sightline.config.schema import Optim
    from sightline.engine.optim import build_optimizer

    model = torch.nn.Linear(3, 2)
    with loaded(parts):
        optimizer = build_optimizer(model, Optim(name="rmsprop", lr=0.5, weight_decay=0.1), {})
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.5, 0.1)]


def test_recipes_that_are_files_can_name_own_parts(
    parts: Path, photos: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    recipe = written(tmp_path, dump_yaml({"task": "classify", "model": {"name": "gray_net"}}), "r.yaml")
    with pytest.raises(SightlineError, match="unknown model 'gray_net'"):
        sightline.train(str(recipe), photos, out=tmp_path / "run", quiet=True)
    settings = {key: value for key, value in tiny.items() if key not in ("model.name", "model.args")} | {
        "train.epochs": 1
    }
    run = sightline.train(str(recipe), photos, out=tmp_path / "run", quiet=True, code=parts, **settings)
    assert run.metrics["epoch"] == 1


@pytest.mark.parametrize(
    ("given", "settings", "what"),
    [
        ("MODELS = {'forgot': lambda size: None}", {"model.name": "forgot", "model.args": {}}, "class Module"),
        ("OPTIMIZERS = {'forgot': lambda groups, optim: None}", {"optim.name": "forgot"}, "class Optimizer"),
        ("LOSSES = {'forgot': lambda logits, targets, weights=None: None}", {"loss.name": "forgot"}, "not a scalar"),
    ],
)
def test_a_function_without_return_is_a_mistake_of_the_user(
    photos: Path, tiny: dict, tmp_path: Path, given: str, settings: dict[str, Any], what: str
) -> None:
    (tmp_path / "parts.py").write_text(given)
    with pytest.raises(SightlineError, match=what) as caught:
        sightline.train(configured(tiny), photos, out=tmp_path / "run", code=tmp_path / "parts.py", **settings)
    assert "NoneType" in caught.value.why


def test_threads_load_a_file_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    inside = []

    def call(number: int) -> None:
        with loaded(tmp_path / "parts.py"), loaded(tmp_path / "parts.py"):
            time.sleep(0.02 * number)  # the first that ends must not remove the parts of the others
            inside.append("gray" in str([*MODELS]))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(4)))
    assert inside == [True] * 4 and not LOADED
