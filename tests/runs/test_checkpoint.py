"""Checkpoints: exact round trips, damage of every kind, and disk space."""

import copy
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from checkpoint_toys import DESCRIPTION, describe, equal, no_fsync, tensors  # noqa: F401
from sightline.errors import ENVIRONMENT, SightlineError
from sightline.runs import atomic, checkpoint
from sightline.runs.checkpoint import (
    flatten_optimizer,
    load_model,
    load_state,
    preflight,
    required_bytes,
    save_model,
    save_state,
    total_bytes,
    unflatten_optimizer,
)

# ------------------------------------------------------------------------------------------------------ round trips


def test_model_round_trip_and_layout(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints" / "best"
    save_model(folder, tensors(1), describe(1))
    loaded, description = load_model(folder)
    assert equal(loaded, tensors(1)) and description == describe(1)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "model.safetensors.sha256",
    ]
    assert load_model(tmp_path / "run")[1] == describe(1)  # checkpoints/best of a run folder
    assert json.loads((folder / "config.json").read_text()) == describe(1)


def test_files_are_readable_by_the_safetensors_library(tmp_path: Path) -> None:
    save_model(tmp_path, tensors(3), describe(3))
    assert equal(load_file(tmp_path / "model.safetensors"), tensors(3))
    ours = (tmp_path / "model.safetensors").stat().st_size
    save_file({name: t.clone().contiguous() for name, t in tensors(3).items()}, tmp_path / "other.safetensors")
    assert abs(ours - (tmp_path / "other.safetensors").stat().st_size) < 200  # the metadata


def test_sidecar_is_in_the_format_of_sha256sum(tmp_path: Path) -> None:
    save_model(tmp_path, tensors(1), describe(1))
    digest = atomic.sha256(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors.sha256").read_text() == f"{digest}  model.safetensors\n"
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--strict", "model.safetensors.sha256"], cwd=tmp_path, check=True)


def test_non_finite_metrics_become_null(tmp_path: Path) -> None:
    save_model(tmp_path, tensors(1), describe(1) | {"metrics": {"loss": float("nan")}})
    assert load_model(tmp_path)[1]["metrics"] == {"loss": None}


def test_state_round_trip_alternates_slots(tmp_path: Path) -> None:
    names = [save_state(tmp_path, tensors(step), {"step": step, "best": 0.1 + 0.2}).name for step in range(1, 6)]
    assert names == ["state-0.safetensors", "state-1.safetensors"] * 2 + ["state-0.safetensors"]
    loaded, values, note = load_state(tmp_path)
    assert equal(loaded, tensors(5)) and values == {"step": 5, "best": 0.1 + 0.2} and note is None


def test_states_are_ordered_by_serial_number_not_by_time(tmp_path: Path) -> None:
    for step in (1, 2):
        save_state(tmp_path, tensors(step), {"step": step})
    os.utime(tmp_path / "state-1.safetensors", (0, 0))  # as after the clock was set back
    assert load_state(tmp_path)[1] == {"step": 2}


def test_large_finite_numbers_are_saved(tmp_path: Path) -> None:
    large = {"float": torch.full((9,), 3e38), "half": torch.full((9,), 6e4, dtype=torch.float16)}
    save_state(tmp_path, large, {})
    assert equal(load_state(tmp_path)[0], large)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_states_are_never_written(tmp_path: Path, value: float) -> None:
    save_state(tmp_path, tensors(1), {"step": 1})
    bad = tensors(2)
    bad["half"][2] = value
    with pytest.raises(SightlineError, match="half"):
        save_state(tmp_path, bad, {"step": 2})
    with pytest.raises(SightlineError, match="half"):
        save_model(tmp_path, bad, describe(2))
    assert load_state(tmp_path)[1] == {"step": 1} and not (tmp_path / "model.safetensors").exists()


# -------------------------------------------------------------------------------------------------------- optimizers


def small_model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 3))
    return model.to(memory_format=torch.channels_last)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "plain sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, amsgrad=True),
    "adamw fused": lambda p: torch.optim.AdamW(
        [{"params": p[:2], "lr": 3e-4, "name": "stem"}, {"params": p[2:]}], lr=1e-3, fused=True
    ),
}


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        model(images.to(memory_format=torch.channels_last)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumed_optimizers_are_bit_identical(tmp_path: Path, name: str) -> None:
    model = small_model()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    steps(model, optimizer, 0, 3)
    flat, values = flatten_optimizer(optimizer.state_dict())
    weights = {f"model.{key}": tensor for key, tensor in model.state_dict().items()}
    save_state(tmp_path, weights | flat, {"optimizer": values})
    steps(model, optimizer, 3, 6)

    loaded, saved, _ = load_state(tmp_path)
    again = small_model()
    again.load_state_dict({key[6:]: tensor for key, tensor in loaded.items() if key.startswith("model.")})
    fresh = OPTIMIZERS[name](list(again.parameters()))
    fresh.load_state_dict(unflatten_optimizer(loaded, saved["optimizer"]))
    steps(again, fresh, 3, 6)
    assert equal(model.state_dict(), again.state_dict())
    for parameter, state in fresh.state.items():  # fused kernels iterate over raw memory, so strides must be equal
        for tensor in state.values():
            if isinstance(tensor, Tensor) and tensor.dim():
                assert tensor.stride() == parameter.stride()


def test_optimizer_state_keeps_its_types() -> None:
    model = small_model()
    optimizer = OPTIMIZERS["adamw fused"](list(model.parameters()))
    steps(model, optimizer, 0, 1)
    state = copy.deepcopy(optimizer.state_dict())
    flat, values = flatten_optimizer(state)
    again = unflatten_optimizer(flat, json.loads(json.dumps(values)))
    assert again["param_groups"] == state["param_groups"] and isinstance(again["param_groups"][0]["betas"], tuple)
    assert again["state"].keys() == state["state"].keys()
    assert torch.equal(again["state"][0]["step"], state["state"][0]["step"])
    assert "state.0.exp_avg" in flat


# ------------------------------------------------------------------------------------------------------------ damage


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_flipped_bits_are_detected_and_the_other_state_is_used(tmp_path: Path) -> None:
    for step in (1, 2):
        save_state(tmp_path, tensors(step), {"step": step})
    newest = tmp_path / "state-1.safetensors"
    rng, size = random.Random(0), newest.stat().st_size
    for bit in [*range(0, 80, 7), *(rng.randrange(8 * size) for _ in range(100))]:
        flip(newest, bit)
        loaded, values, note = load_state(tmp_path)
        assert values == {"step": 1} and equal(loaded, tensors(1)), bit
        assert note and "state-1.safetensors does not match its checksum" in note and "state-0.safetensors" in note
        flip(newest, bit)
    assert load_state(tmp_path)[1:] == ({"step": 2}, None)


def test_damage_to_the_older_state_is_reported(tmp_path: Path) -> None:
    for step in (1, 2):
        save_state(tmp_path, tensors(step), {"step": step})
    flip(tmp_path / "state-0.safetensors", 8 * 400)
    _, values, note = load_state(tmp_path)
    assert values == {"step": 2} and note and "state-0.safetensors does not match" in note


def test_a_save_after_damage_is_the_newest_state(tmp_path: Path) -> None:
    for step in (1, 2):
        save_state(tmp_path, tensors(step), {"step": step})
    (tmp_path / "state-1.safetensors").write_bytes(b"")
    save_state(tmp_path, tensors(3), {"step": 3})
    assert load_state(tmp_path)[1:] == ({"step": 3}, None)


@pytest.mark.parametrize("fault", ["both damaged", "no sidecar", "foreign", "newer", "none", "no folder"])
def test_resuming_without_a_valid_state_is_an_error(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "newer":
        monkeypatch.setattr(checkpoint, "FORMAT", 2)
    if fault not in ("none", "no folder", "foreign"):
        for step in (1, 2):
            save_state(tmp_path, tensors(step), {"step": step})
    if fault == "newer":
        monkeypatch.setattr(checkpoint, "FORMAT", 1)
    for slot in tmp_path.glob("state-?.safetensors"):
        if fault == "both damaged":
            flip(slot, 5000)
        if fault == "no sidecar":
            (tmp_path / f"{slot.name}.sha256").unlink()
    if fault == "foreign":
        save_file({"w": torch.zeros(3)}, tmp_path / "state-0.safetensors")
        digest = atomic.sha256(tmp_path / "state-0.safetensors")
        (tmp_path / "state-0.safetensors.sha256").write_text(f"{digest}  state-0.safetensors\n")
    with pytest.raises(SightlineError, match="no state to resume from") as caught:
        load_state(tmp_path / "none" if fault == "no folder" else tmp_path)
    expected = {
        "both damaged": "checksum",
        "no sidecar": "sha256",
        "foreign": "not a saved training state",
        "newer": "newer version of Sightline",
    }
    assert expected.get(fault, "the folder has no state file") in caught.value.why


def header(length: int, text: bytes) -> bytes:
    return length.to_bytes(8, "little") + text


NOT_WEIGHTS = {
    "empty": (b"", "is empty"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n", "Git LFS"),
    "zip": (b"PK\x03\x04" + bytes(100), "PyTorch"),
    "pickle": (b"\x80\x02}q\x00." + bytes(100), "pickle"),
    "text": (b"hello", "not a safetensors file"),
    "absurd header": (header(2**62, b"{}"), "not a safetensors file"),
    "long header": (header(5000, b"{}"), "ends early"),
    "no json": (header(8, b"{abcdefg"), "damaged header"),
    "deep json": (header(90_000, b'{"a":' * 18_000), "damaged header"),
    "list": (header(40, b'{"a":[1,2,3]}'.ljust(40)), "damaged header"),
    "overlap": (
        header(120, b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],'
               b'"data_offsets":[4,12]}}'.ljust(120)) + bytes(12),
        "cannot be read",
    ),
    "giant": (
        header(80, b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,8]}}'.ljust(80)) + bytes(8),
        "cannot be read",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*checksum was not verified")
@pytest.mark.parametrize("name", NOT_WEIGHTS)
@pytest.mark.parametrize("with_checksum", [True, False])
def test_files_that_are_not_weights_are_identified(tmp_path: Path, name: str, with_checksum: bool) -> None:
    content, expected = NOT_WEIGHTS[name]
    folder = tmp_path / "best"
    save_model(folder, tensors(1), describe(1))
    save_model(tmp_path / "last", tensors(1), describe(1))
    (folder / "model.safetensors").write_bytes(content)
    if not with_checksum:
        (folder / "model.safetensors.sha256").unlink()
    with pytest.raises(SightlineError) as caught:
        load_model(folder)
    assert expected in caught.value.what or (with_checksum and "does not match its checksum" in caught.value.what)
    assert caught.value.where == str(folder / "model.safetensors") and str(tmp_path / "last") in caught.value.cure


def test_truncated_weights_are_reported_with_their_size(tmp_path: Path) -> None:
    save_model(tmp_path, tensors(1), describe(1))
    path = tmp_path / "model.safetensors"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SightlineError, match=f"ends early: {size - 100:,} of {size:,} bytes"):
        load_model(tmp_path)


def test_weights_without_a_checksum_file_are_read_with_a_warning(tmp_path: Path) -> None:
    save_model(tmp_path, tensors(1), describe(1))
    (tmp_path / "model.safetensors.sha256").unlink()
    with pytest.warns(UserWarning, match="checksum was not verified"):
        assert equal(load_model(tmp_path)[0], tensors(1))


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "{}", '{"format": "1"}', '{"format": 2}', "[" * 100_000, "\0"]
)
def test_a_missing_or_invalid_description_is_an_error(tmp_path: Path, content: str | None) -> None:
    save_model(tmp_path, tensors(1), describe(1))
    (tmp_path / "config.json").unlink()
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(SightlineError) as caught:
        load_model(tmp_path)
    assert caught.value.where == str(tmp_path / "config.json")
    assert ("newer version of Sightline" in caught.value.what) == (content == '{"format": 2}')


def test_the_error_for_missing_weights_suggests_the_other_checkpoint(tmp_path: Path) -> None:
    save_model(tmp_path / "checkpoints" / "last", tensors(1), describe(1))
    with pytest.raises(SightlineError, match="no weights in this folder") as caught:
        load_model(tmp_path)
    assert str(tmp_path / "checkpoints" / "last") in caught.value.cure
    with pytest.raises(SightlineError, match="no weights in this folder"):
        load_model(tmp_path / "nowhere")


# -------------------------------------------------------------------------------------------------------- disk space


def test_preflight_reports_required_and_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"w": torch.zeros(1_000_000)}
    state = model | {"m": torch.zeros(1_000_000)}
    needed = required_bytes(total_bytes(model), total_bytes(state))
    assert needed == 2 * 4_000_000 + 2 * 8_000_000 + 8_000_000 + checkpoint.MARGIN_BYTES
    preflight(tmp_path / "not" / "yet" / "there", 1)
    usage = shutil.disk_usage(tmp_path)._replace(free=90_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.delattr(Path, "is_mount")  # Python 3.11 has no `is_mount` on Windows
    with pytest.raises(SightlineError, match="99 MB, but only 90 MB are free at /") as caught:
        preflight(tmp_path / "run", needed)
    assert caught.value.status == ENVIRONMENT
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes(bytes(10_000_000))  # will be replaced, so it counts as free
    preflight(tmp_path / "run", needed)


@pytest.mark.parametrize("metadata", ["{invalid", "[1, 2]", "3"])
@pytest.mark.filterwarnings("ignore:.*no .sha256")
def test_damaged_metadata_in_the_weights_file_is_an_error(tmp_path: Path, metadata: str) -> None:
    save_model(tmp_path, {"a": torch.ones(1)}, {"format": 1, "epoch": 1})
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors", {"sightline": metadata})
    (tmp_path / "model.safetensors.sha256").unlink()
    with pytest.raises(SightlineError, match="metadata in the weights file is damaged"):
        load_model(tmp_path)


def test_a_description_of_other_weights_is_an_error(tmp_path: Path) -> None:
    save_model(tmp_path / "best", tensors(1), describe(1))
    config = tmp_path / "best" / "config.json"
    config.write_text(config.read_text().replace('"cat"', '"cau"'))
    with pytest.raises(SightlineError, match="does not belong to the weights beside it"):
        load_model(tmp_path / "best")
