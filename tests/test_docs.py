"""Every command and Python example of README and the guides runs at toy size, in the order of the text."""

import importlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sam_toys import write_sam
from sightline.__main__ import app, run
from sightline.errors import FINDINGS
from sightline.recipes import RECIPES
from sweep_toys import ForkedProcess

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md",
    "docs/train.md",
    "docs/weights.md",
    "docs/data.md",
    "docs/doctor.md",
    "docs/multilabel.md",
    "docs/segment.md",
    "docs/masks.md",
    "docs/score.md",
    "docs/pretrain.md",
    "docs/report.md",
    "docs/export.md",
    "docs/predict.md",
    "docs/serve.md",
    "docs/sweep.md",
    "docs/segment-anything.md",
    "docs/streaming.md",
    "docs/tutorials/first-classifier.md",
    "docs/tutorials/masks.md",
    "docs/tutorials/few-labels.md",
    "docs/tutorials/defend.md",
    "docs/tutorials/elsewhere.md",
]
QUICK = ("README.md", "docs/tutorials/first-classifier.md")
MARKED = [page if page in QUICK else pytest.param(page, marks=pytest.mark.slow) for page in PAGES]
"""The pages; those that only `make test-all` runs are marked."""
WITHOUT_COMMANDS = ("docs/data.md", "docs/masks.md")
TOY = {
    "data.size": 16,
    "model.name": "small_cnn",
    "model.args": "{widths: [16, 32, 32], hidden: 64}",
    "data.filter": "bilinear",  # not that of the recipe's weights
    "augment.normalize": "dataset",
    "augment.resize": 18,
    "train.epochs": 1,
    "train.batch_size": 16,
    "train.precision": "fp32",
    "report.samples": 8,
}
TOY_MASKS = {
    "augment.normalize": "dataset",
    "model.name": "unet",
    "model.args": "{width: 8, blocks: [1, 1, 1, 1], decoder: [8, 8]}",
    "augment.window": "[16, 16]",
    "train.epochs": 1,
    "train.batch_size": 4,
    "train.precision": "fp32",
    "report.samples": 2,
}


def blocks(page: str, language: str) -> list[str]:
    """The fenced code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


TOY_PRETRAINING = {
    "data.size": 16,
    "model.args": "{widths: [8, 16, 16]}",
    "augment.progressive": "[]",
    "pretrain.projector": "[16, 8]",
    "pretrain.predictor": 16,
    "train.epochs": 1,
    "train.batch_size": 8,
    "train.precision": "fp32",
    "report.samples": 0,
}
SHARED = ("data.size", "model.args", "train.epochs", "train.batch_size", "train.precision", "report.samples")


def toy(tokens: list[str]) -> list[str]:
    """Add the toy settings that a command does not have."""
    if tokens[0] == "transfer":
        stages = {f"unlabeled.{key}": value for key, value in TOY_PRETRAINING.items()}
        stages |= {f"{stage}.{key}": TOY_PRETRAINING[key] for stage in ("labeled", "full", "frozen") for key in SHARED}
        stages["frozen.train.epochs"] = 1
        short = ["--seeds", "0", "--pretrain-seeds", "0", "--tune", "none"]
        return [*tokens, *short, *(item for key, value in stages.items() for item in (f"--{key}", str(value)))]
    small = {"--train.epochs": "2", "--data.size": "16", "--model.args": "{widths: [8, 16, 16]}"}
    if tokens[0] == "resume":
        small["--train.epochs"] = "3"
    given = [small.get(before, token) for before, token in zip(["", *tokens], tokens, strict=False)]
    if tokens[0] == "masks" and "--points-per-side" not in tokens:
        return [*tokens, "--points-per-side", "4"]
    if tokens[0] not in ("train", "sweep", "repeat") or tokens[1].endswith(".yaml"):
        return given
    recipe = RECIPES[tokens[1]]() if tokens[1] in RECIPES else None
    settings = {"segment": TOY_MASKS, "pretrain": TOY_PRETRAINING}.get(recipe.task if recipe else "", TOY)
    if recipe and recipe.model.weights != "none" and "--model.name" not in tokens:
        settings = {**settings, "model.weights": "none"}  # they do not fit the toy network
    if "--model.name" in tokens:
        settings = {key: value for key, value in settings.items() if key != "model.args"}
    extra = [item for key, value in settings.items() for item in (f"--{key}", str(value)) if f"--{key}" not in tokens]
    return given + extra


@pytest.fixture
def workspace(make_photos: Callable[..., Path], make_scenes: Callable[..., Path], tmp_path: Path) -> Path:
    """A folder with the data of the guides."""
    make_photos(tmp_path / "photos", train=6, test=4)
    shutil.copytree(tmp_path / "photos" / "train", tmp_path / "others")
    (tmp_path / "images").mkdir()
    (tmp_path / "tags.csv").write_text(
        "filename,label\n" + "".join(f"images/picture{n}.png,{'ab'[n % 2]};c\n" for n in range(18))
    )
    for number, path in enumerate(sorted((tmp_path / "photos" / "train").rglob("*.png"))):
        shutil.copy(path, tmp_path / "images" / f"picture{number}.png")
    make_scenes(tmp_path / "land")
    shutil.copytree(tmp_path / "land", tmp_path / "data")
    (tmp_path / "new").mkdir()
    (tmp_path / "runs" / "mine" / "predictions" / "val").mkdir(parents=True)
    for path in (tmp_path / "land" / "validation").iterdir():
        masks = path.name.endswith("_mask.png")
        shutil.copy(path, tmp_path / "runs" / "mine" / "predictions" / "val" if masks else tmp_path / "new")
    return tmp_path


@pytest.fixture
def tiny_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segment Anything checkpoints with random weights, in the cache of the Hugging Face Hub under the real names."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("base", "huge"):
        folder = tmp_path / "hub" / f"models--facebook--sam-vit-{name}"
        write_sam(folder / "snapshots" / "abc", 64)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("abc")


@pytest.fixture
def downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights of a network of timm, in the cache of the Hugging Face hub under the real name, and in a file."""
    import timm
    from huggingface_hub import constants
    from safetensors.torch import save_file

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--timm--tf_efficientnet_lite0.in1k"
    for path in (folder / "snapshots" / "abc", folder / "refs", tmp_path / "weights"):
        path.mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    file = folder / "snapshots" / "abc" / "model.safetensors"
    save_file(timm.create_model("tf_efficientnet_lite0").state_dict(), file)
    shutil.copy(file, tmp_path / "weights")


@pytest.fixture
def quick_trials(monkeypatch: pytest.MonkeyPatch, no_figures: None) -> None:
    """Fork the trials of a sweep from the test process, and draw no figures."""
    monkeypatch.setattr(importlib.import_module("sightline.sweep.scheduler"), "start_process", ForkedProcess)


ELSEWHERE = "docs/tutorials/elsewhere.md"


def trained_before() -> None:
    """Train the run of the tutorial that comes before ELSEWHERE."""
    run(toy(["train", "photos_scratch", "--data", "photos", "--out", "runs/start/probe"]))


@pytest.mark.usefixtures("each_figure_once")
@pytest.mark.parametrize("page", MARKED)
def test_commands_in_the_docs_run(
    page: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(workspace)
    if page == ELSEWHERE:
        trained_before()
    if any("sightline masks" in code for code in blocks(page, "sh")):
        request.getfixturevalue("tiny_hub")
    if page in ("docs/weights.md", "docs/doctor.md"):
        request.getfixturevalue("downloaded")
    if any("sightline sweep" in code for code in blocks(page, "sh")):
        request.getfixturevalue("quick_trials")
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)  # it would serve until Ctrl-C
    ran = 0
    for line in "\n".join(blocks(page, "sh")).splitlines():
        tokens = shlex.split(line, comments=True)
        if not tokens or tokens[0] != "sightline":
            assert not tokens or tokens[0] == "make", line
            continue
        if tokens[1] == "transfer" and "tutorials" in page:  # it takes long, and runs for the guide
            assert line in blocks("docs/pretrain.md", "sh")[2], line
            continue
        allowed = (0, FINDINGS) if tokens[1] == "doctor" else (0,)
        if tokens[1] == "start":  # it takes minutes: only one of its runs is made, by another recipe
            app.parse_args(tokens[1:], exit_on_error=False, print_error=False)
            if Path("runs/start/probe").exists():  # the same command again only resumes
                continue
            tokens = ["", "train", "photos_scratch", "--data", tokens[2], "--out", "runs/start/probe"]
        if tokens[1:3] in (["doctor", "runs/clean"], ["doctor", "runs/start/probe"]):
            allowed += (2,)  # a run of two epochs may predict one class for every image, which shows no wrong labels
        assert run(toy(tokens[1:])) in allowed, line
        ran += 1
    assert ran or page in WITHOUT_COMMANDS


@pytest.mark.usefixtures("no_figures")
def test_commands_for_several_machines_are_valid_for_torchrun_and_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun's parser accepts the options; the commands run here in one process, on toy images."""
    from torch.distributed.run import get_args_parser

    monkeypatch.chdir(workspace)
    scripts = [block.replace("\\\n", " ") for block in blocks("docs/scale.md", "text")]
    lines = [line for script in scripts for line in script.splitlines() if "torchrun " in line]
    assert len(lines) == 3
    for line in lines:
        quoted = re.sub(r"\$\(.*?\)", "output", line)  # command substitutions
        given = get_args_parser().parse_args(shlex.split(quoted.partition("torchrun ")[2]))
        assert given.module and given.training_script == "sightline", line
        tokens = given.training_script_args
        tokens[tokens.index("--data") + 1] = str(workspace / "photos")
        tokens[tokens.index("--out") + 1] = str(workspace / f"run{lines.index(line)}")
        assert run(toy([*tokens, "--model.weights", "none"])) == 0, line


def test_the_slurm_script_is_valid_and_requests_sigterm() -> None:
    script = next(block for block in blocks("docs/scale.md", "text") if block.startswith("#!"))
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    options = shlex.split(re.findall(r"^#SBATCH (.*)$", script, re.MULTILINE)[0])
    assert options[options.index("--signal") + 1].partition("@")[0] == "TERM"


@pytest.mark.parametrize("page", MARKED)
def test_python_examples_in_the_docs_run(
    page: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(workspace)
    if page == ELSEWHERE:
        trained_before()
    if page == "docs/sweep.md":
        request.getfixturevalue("quick_trials")
    np.save("others.features.npy", np.eye(7, dtype=np.float32))  # which a command of docs/predict.md writes
    settings = TOY | {"model.weights": "none"}
    for code in blocks(page, "python"):
        toy_code = re.sub(r'\*\*\{"train.epochs": \d+\}', f"**{settings!r}", code)
        namespace: dict[str, object] = {}
        exec(compile(toy_code, page, "exec"), namespace)
        if "recipe" in namespace:
            assert namespace["recipe"]().name == "mine"  # ty: ignore[call-non-callable]


def test_the_readme_lists_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in app:
        if not name.startswith("-"):
            assert f"`sightline {name}" in text, name


def test_relative_links_exist() -> None:
    for page in [
        *PAGES,
        "CONTRIBUTING.md",
        "docs/extend.md",
        "docs/architecture.md",
        "docs/recipes.md",
        "docs/scale.md",
        "docs/performance.md",
    ]:
        path = ROOT / page
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (path.parent / link).exists(), f"{page}: {link}"


def test_no_text_installs_the_unrelated_package_named_sightline():
    """The package `sightline` on PyPI is unrelated; this project is `sightline-vision`."""
    install = re.compile(
        r"(?:pip install|uv add|uv pip install|pipx install)[^\n]*?\bsightline(?!-vision|/)|\bsightline\["
    )
    assert install.search("pip install sightline") and install.search("pip install 'sightline[onnx]'")
    assert not install.search("pip install 'sightline-vision[onnx]'")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    texts = [
        ROOT / name for name in listed.split("\0") if name.endswith((".py", ".md", ".toml", ".ts", ".sh", ".yaml"))
    ]
    found = [
        f"{path}: {match[0]}"
        for path in texts
        if path.is_file() and path != Path(__file__)
        for match in install.finditer(path.read_text())
    ]
    assert texts and not found
