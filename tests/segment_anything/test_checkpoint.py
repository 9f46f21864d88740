"""Loading weights from folders and from the cache of the Hugging Face hub; downloads."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from sightline import SightlineError
from sightline.__main__ import run
from sightline.errors import ENVIRONMENT, USER
from sightline.segment_anything import checkpoint
from sightline.segment_anything.checkpoint import NAMES, find_checkpoint
from sightline.segment_anything.model import load_sam


def load_error(name: str, download: bool = False) -> SightlineError:
    """The error of loading a checkpoint."""
    with pytest.raises(SightlineError) as caught:
        load_sam(name, download)
    assert caught.value.where and caught.value.why and caught.value.cure
    return caught.value


def in_hub(source: Path, repository: str) -> Path:
    """Copy a checkpoint to the cache of the Hugging Face hub; returns the copy."""
    cache = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    shutil.copytree(source, cache / "snapshots" / "abc123")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc123")
    return cache / "snapshots" / "abc123"


def test_short_names_are_those_of_metas_weights() -> None:
    assert {NAMES[name] for name in ("vit_b", "base")} == {"facebook/sam-vit-base"}
    assert {NAMES[name] for name in ("vit_l", "large")} == {"facebook/sam-vit-large"}
    assert {NAMES[name] for name in ("vit_h", "huge")} == {"facebook/sam-vit-huge"}


@pytest.mark.parametrize("name", ["vit_b", "facebook/sam-vit-base"])
def test_a_name_is_found_in_the_cache_of_the_hub_without_a_network(
    tiny_sam: Path, name: str, no_network: list[object]
) -> None:
    folder = in_hub(tiny_sam, "facebook/sam-vit-base")
    assert find_checkpoint(name).folder == folder
    assert load_sam(name, download=True).name == "facebook/sam-vit-base", "a complete checkpoint is not fetched again"
    assert no_network == []


def test_nothing_is_downloaded_without_download(no_network: list[object]) -> None:
    error = load_error("vit_h")
    assert error.status == ENVIRONMENT and "--download" in error.cure and "2,560 MB" in error.cure
    assert "facebook/sam-vit-huge is not on this machine" in error.what
    assert no_network == [], "no connection was tried"


def test_a_download_without_a_network_is_one_clear_message(
    no_network: list[object], capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    command = ["masks", str(folder), "--out", str(tmp_path / "out"), "--model", "vit_b", "--download"]
    assert run(command) == ENVIRONMENT
    shown = capsys.readouterr().err
    assert "cannot download sam-vit-base" in shown and "offline" in shown and "Traceback" not in shown
    assert "hf download facebook/sam-vit-base" in shown and len(shown.strip().splitlines()) == 4
    assert "--include '*.json' --include '*.safetensors';" in shown, "one value for each --include, as the hub takes"
    assert not (tmp_path / "out").exists()


def test_no_download_with_hf_hub_offline(no_network: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in load_error("vit_b", download=True).why and no_network == []


def test_only_json_and_safetensors_are_downloaded(tiny_sam: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the cache has only a pickle of an earlier version."""
    import huggingface_hub

    found = in_hub(tiny_sam, "facebook/sam-vit-large")
    (found / "model.safetensors").rename(found / "pytorch_model.bin")
    assert load_error("vit_l").why == "it has no model.safetensors"
    calls = []

    def snapshot(repository: str, allow_patterns: list[str], local_files_only: bool) -> str:
        calls.append((repository, allow_patterns, local_files_only))
        return str(found if local_files_only else tiny_sam)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(checkpoint, "require_network", lambda url: None)
    assert find_checkpoint("vit_l", download=True).folder == tiny_sam
    wanted = ["*.json", "*.safetensors"]
    assert calls == [("facebook/sam-vit-large", wanted, True), ("facebook/sam-vit-large", wanted, False)]


def test_an_interrupted_download_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def broken(repository: str, allow_patterns: list[str], local_files_only: bool) -> str:
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("no")
        raise ConnectionResetError("reset by peer\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    monkeypatch.setattr(checkpoint, "require_network", lambda url: None)
    error = load_error("facebook/sam2.1-hiera-tiny", download=True)
    assert error.why == "reset by peer" and error.status == ENVIRONMENT


@pytest.mark.parametrize("package", ["transformers", "pycocotools.mask"])
def test_a_missing_extra_is_an_error_with_the_install_command(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SightlineError, match="needs transformers and pycocotools") as caught:
        load_sam("vit_b")
    assert caught.value.status == ENVIRONMENT and caught.value.cure == "pip install 'sightline-vision[sam]'"
    assert caught.value.why == f"{package} is not installed"


@pytest.mark.parametrize("name", ["sam_vit_h_4b8939.pth", "here/sam.pt"])
def test_metas_own_files_are_an_error_that_names_the_same_weights(name: str, no_network: list[object]) -> None:
    error = load_error(name)
    assert error.status == USER and "pickle" in error.why and no_network == []
    assert "facebook/sam-vit-base" in error.cure and "--download" in error.cure


def test_a_pickle_in_a_folder_is_not_opened(tiny_sam: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_sam, tmp_path / "sam")
    (tmp_path / "sam" / "model.safetensors").unlink()
    program = b"cos\nsystem\n(S'touch " + str(tmp_path).encode() + b"/p'\ntR."
    (tmp_path / "sam" / "pytorch_model.bin").write_bytes(program)
    error = load_error(str(tmp_path / "sam"))
    assert error.why == "it has no model.safetensors"
    shutil.copy(tiny_sam / "model.safetensors", tmp_path / "sam")
    load_sam(str(tmp_path / "sam"))
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda p: (p / "config.json").unlink(), "no config.json"),
        (lambda p: (p / "config.json").write_text("{"), "model_type in its config.json is None"),
        (lambda p: (p / "config.json").write_text('{"model_type": "vit"}'), "'vit'"),
        (lambda p: (p / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda p: (p / "processor_config.json").unlink(), "no preprocessor_config.json"),
        (lambda p: (p / "model.safetensors").write_bytes(b"x" * 100), "Error"),
        (lambda p: save_file(dict(list(load_file(p / "model.safetensors").items())[:9]), p / "model.safetensors"),
         "tensors are missing, the first: "),
    ],
)  # fmt: skip
def test_an_incomplete_folder_is_an_error_that_names_the_file(tiny_sam: Path, tmp_path: Path, damage, why: str) -> None:
    shutil.copytree(tiny_sam, tmp_path / "sam")
    damage(tmp_path / "sam")
    assert why in load_error(str(tmp_path / "sam")).why


@pytest.mark.parametrize("name", ["vit-b", "./none", "a/b/c", "a b/c", "/tmp/none"])
def test_an_invalid_name_is_an_error_without_a_download(name: str, no_network: list[object]) -> None:
    assert load_error(name, download=True).status == USER and no_network == []


def test_a_weights_file_is_not_a_checkpoint(tiny_sam: Path) -> None:
    assert load_error(str(tiny_sam / "model.safetensors")).what == "this is not a checkpoint"


def test_code_in_a_checkpoint_is_not_run(tiny_sam: Path, tmp_path: Path) -> None:
    """A config can name a Python file, which transformers would run with trust_remote_code."""
    shutil.copytree(tiny_sam, tmp_path / "sam")
    config = json.loads((tmp_path / "sam" / "config.json").read_text())
    config["auto_map"] = {"AutoModelForMaskGeneration": "evil.Evil", "AutoImageProcessor": "evil.Evil"}
    (tmp_path / "sam" / "config.json").write_text(json.dumps(config))
    (tmp_path / "sam" / "evil.py").write_text(f"open({str(tmp_path / 'p')!r}, 'w')\nclass Evil: pass")
    assert type(load_sam(str(tmp_path / "sam")).network).__name__ == "SamModel"
    assert not (tmp_path / "p").exists()
