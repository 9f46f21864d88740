"""Out-of-memory errors: the message, splitting batches into parts, and glibc's allocator settings."""

import ctypes
import os
import re
import sys
from types import SimpleNamespace

import pytest
import torch

from config_toys import configured
from sightline import SightlineError
from sightline.config.schema import Config
from sightline.data.types import Batch
from sightline.engine.distributed import World
from sightline.engine.memory import (
    ALLOCATOR_VARIABLES,
    explain_out_of_memory,
    keep_freed_memory,
    split,
    split_if_out_of_memory,
)
from sightline.errors import ENVIRONMENT
from sightline.runs.run_folder import CHANGEABLE

resource = pytest.importorskip("resource", reason="needs the limits of Unix")


def test_a_failed_allocation_names_the_cure() -> None:
    config = configured({"train.batch_size": 64, "optim.accumulate": 2})
    with pytest.raises(SightlineError, match="memory") as caught, explain_out_of_memory(config):
        torch.empty(2**50, dtype=torch.uint8)
    assert caught.value.status == ENVIRONMENT
    assert "--train.batch_size 32 --optim.accumulate 4" in caught.value.cure
    with pytest.raises(SightlineError), explain_out_of_memory(config):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(SightlineError), explain_out_of_memory(config):
        raise MemoryError


def test_only_options_are_named_that_the_command_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    def named(resumed: bool, several: bool, **settings: str) -> set[str]:
        monkeypatch.setattr("sightline.engine.memory.world", lambda: World(size=2 if several else 1))
        config = configured({f"train.{key}": value for key, value in settings.items()})
        with pytest.raises(SightlineError) as caught, explain_out_of_memory(config, resumed=resumed):
            raise MemoryError
        return set(re.findall(r"--([a-z_]+\.[a-z_]+)", caught.value.cure))

    halve, every = "train.on_out_of_memory", {"train.batch_size", "optim.accumulate", "data.size", "model.name"}
    assert named(False, False) == every | {halve, "train.eval_batch_size"}
    assert named(False, True) == every | {"train.eval_batch_size"}, "several processes cannot halve batches"
    assert named(True, False) == {halve, "train.eval_batch_size"} <= set(CHANGEABLE)
    assert named(True, True) == named(True, False, on_out_of_memory="halve") == {"train.eval_batch_size"}


def test_the_message_of_commands_without_settings_has_the_recipe_file() -> None:
    with pytest.raises(SightlineError) as caught, explain_out_of_memory(Config(), "runs/a/recipe.yaml"):
        raise MemoryError
    assert caught.value.cure == "set `eval_batch_size` in runs/a/recipe.yaml to less than the present 256"


def test_other_errors_are_not_changed() -> None:
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory(Config()):
        raise RuntimeError("shapes do not fit")


def batch_of(count: int) -> Batch:
    return Batch(torch.arange(count).reshape(count, 1, 1, 1), None, torch.arange(count), 3)


@pytest.mark.parametrize(("count", "size", "parts"), [(6, 3, [3, 3]), (7, 3, [3, 2, 2]), (5, 2, [3, 2]), (1, 2, [1])])
def test_split_keeps_the_order_and_has_no_parts_of_one_image(count: int, size: int, parts: list[int]) -> None:
    pieces = split(batch_of(count), size)
    assert [len(piece.samples) for piece in pieces] == parts
    assert torch.equal(torch.cat([piece.images for piece in pieces]), batch_of(count).images)


@pytest.mark.parametrize(("allowed", "fits", "ends"), [("stop", 4, False), ("halve", 4, True), ("halve", 1, False)])
def test_batches_are_split_if_the_setting_allows_it(
    allowed: str, fits: int, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sightline.engine.memory.halve", lambda training: setattr(progress, "parts", 2 * progress.parts)
    )
    progress = SimpleNamespace(parts=1)
    config = configured({"train.batch_size": 8, "train.on_out_of_memory": allowed})

    @split_if_out_of_memory
    def add_gradients(training, group: list[Batch]) -> torch.Tensor:
        if max(len(batch.samples) for batch in group) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.tensor([len(batch.samples) for batch in group])

    training = SimpleNamespace(config=config, progress=progress)
    if ends:
        assert add_gradients(training, [batch_of(8)]).tolist() == [4, 4] and progress.parts == 2
    else:
        with pytest.raises(torch.OutOfMemoryError):
            add_gradients(training, [batch_of(8)])


def page_faults() -> int:
    """Number of page faults for allocating, writing and freeing 16 MiB ten times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        bytearray(b"x") * 2**24
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sets glibc's allocator")
def test_freed_memory_is_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALLOCATOR_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    child = os.fork()
    if not child:  # the settings apply to a process, so they are tested in a child
        library = ctypes.CDLL(None)
        default = library.mallopt(-3, 2**17) + library.mallopt(-1, 2**17) + library.mallopt(-2, 0) == 3
        before = page_faults()
        configured, _, after = keep_freed_memory(), page_faults(), page_faults()
        os._exit(0 if default and configured and before > 2_000 and after < before / 10 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    assert not keep_freed_memory(), "the user has set an option of the allocator"
