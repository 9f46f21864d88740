"""Implementations that are wrong on purpose: each row must see that something is, or it proves nothing."""

import contextlib
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from reliability.toys import swapped

Broken = Callable[[], contextlib.AbstractContextManager[None]]


def replaced(module: str, name: str, value: Callable[[Any], Any]) -> Broken:
    """`sightline.MODULE.NAME` becomes `value(what it was)`."""

    @contextlib.contextmanager
    def install() -> Generator[None]:
        import importlib

        found = importlib.import_module(f"sightline.{module}")
        with swapped(found, name, value(getattr(found, name))):
            yield

    return install


@contextlib.contextmanager
def in_place(path: str | Path, need: int = 0) -> Generator[Path]:
    """What atomic_path would be without the temporary file and the rename."""
    from sightline.runs import atomic

    try:
        atomic.make_folder(Path(path).parent)
        yield Path(path)
    except OSError as error:
        raise atomic.disk_error(Path(path), error) from error


def adopt_unsynced(temporary: Path, path: Path, need: int = 0) -> Path:
    from sightline.runs import atomic

    os.replace(temporary, path)
    atomic.sync_folder(path.parent)
    return path


def any_order(_: Any) -> Any:
    import torch

    def order(seed: int, epoch: int, count: int) -> Any:
        generator = torch.Generator().manual_seed(int.from_bytes(os.urandom(6), "little"))
        return torch.randperm(count, generator=generator)

    return order


def without_optimizer(restore: Any) -> Any:
    def forgetful(training: Any, tensors: Any, values: Any) -> None:
        fresh = training.optimizer.state_dict()
        restore(training, tensors, values)
        training.optimizer.load_state_dict(fresh)

    return forgetful


def recorded_digest(_: Any) -> Any:
    """A checksum that is compared with itself."""
    return lambda path: Path(f"{path}.sha256").read_text(errors="replace").split()[0]


def always_first_slot(_: Any) -> Any:
    return lambda path: -1 if path.name.startswith("state-0") else 0


def nothing(_: Any) -> Any:
    return lambda *arguments, **options: None


def without_limit(process_group: Any) -> Any:
    return lambda seconds: process_group(3600)


def padded(batches: Any) -> Any:
    """Each process takes as many batches as the one with the most; who has fewer takes its last once more."""

    def every(decoded: Any, batch_size: int, device: Any = "cpu", share: Any = (0, 1)) -> Any:
        own = list(batches(decoded, batch_size, device, share))
        most = (len(decoded.names) - 1) // batch_size // share[1] + 1
        spare = next(batches(decoded, batch_size, device))
        return iter(own + [own[-1] if own else spare] * (most - len(own)))

    return every


BROKEN: dict[str, Broken] = {
    "a saver without the rename": replaced("runs.atomic", "atomic_path", lambda _: in_place),
    "a saver without fsync": replaced("runs.atomic", "rename_into_place", lambda _: adopt_unsynced),
    "a saver without the folder's fsync": replaced("runs.atomic", "sync_folder", nothing),
    "an order that ignores the seed": replaced("data.loader", "epoch_order", any_order),
    "a resume that forgets the optimizer": replaced("engine.training_state", "restore", without_optimizer),
    "a checksum that is not checked": replaced("runs.tensor_file", "sha256", recorded_digest),
    "a wait without a limit": replaced("train", "process_group", without_limit),
    "an evaluator that pads": replaced("engine.evaluate", "evaluation_batches", padded),
    "a save over the newest state": replaced("runs.checkpoint", "serial", always_first_slot),
}


def some(*names: str) -> dict[str, Broken]:
    """These broken implementations by their names."""
    return {name: BROKEN[name] for name in names}
