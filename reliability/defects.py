"""Deliberately wrong implementations: a check that does not detect them proves nothing."""

import contextlib
import importlib
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from reliability.contract import Defect
from reliability.toys import patched


def replace_attribute(module: str, name: str, change: Callable[[Any], Any]) -> Defect:
    """A defect that sets `sightline.MODULE.NAME` to `change(its original value)`."""

    @contextlib.contextmanager
    def install() -> Generator[None]:
        found = importlib.import_module(f"sightline.{module}")
        with patched(found, name, change(getattr(found, name))):
            yield

    return install


@contextlib.contextmanager
def write_without_rename(path: str | Path, need: int = 0) -> Generator[Path]:
    """`atomic_path` without the temporary file and the rename."""
    from sightline.runs import atomic

    try:
        atomic.make_folder(Path(path).parent)
        yield Path(path)
    except OSError as error:
        raise atomic.disk_error(Path(path), error) from error


def rename_without_fsync(temporary: Path, path: Path, need: int = 0) -> Path:
    """`adopt` without syncing the file before the rename."""
    from sightline.runs import atomic

    os.replace(temporary, path)
    atomic.sync_folder(path.parent)
    return path


def unseeded_order(_: Any) -> Any:
    """A sample order that ignores seed and epoch."""
    import torch

    def order(seed: int, epoch: int, count: int, sampling: Any = None) -> Any:
        generator = torch.Generator().manual_seed(int.from_bytes(os.urandom(6), "little"))
        return torch.randperm(count, generator=generator)

    return order


def skip_optimizer(restore: Any) -> Any:
    """A resume that does not load the optimizer state."""

    def restore_without_optimizer(training: Any, tensors: Any, values: Any) -> None:
        fresh = training.optimizer.state_dict()
        restore(training, tensors, values)
        training.optimizer.load_state_dict(fresh)

    return restore_without_optimizer


def trust_recorded_digest(_: Any) -> Any:
    """A checksum that is compared with itself."""
    return lambda path: Path(f"{path}.sha256").read_text(errors="replace").split()[0]


def do_nothing(_: Any) -> Any:
    """A function without effect."""
    return lambda *arguments, **options: None


def one_hour_timeout(process_group: Any) -> Any:
    """A process group that ignores the configured timeout."""
    return lambda seconds: process_group(3600)


def pad_batches(batches: Any) -> Any:
    """Give each process the same number of evaluation batches: one with fewer repeats its last batch."""

    def every(decoded: Any, batch_size: int, device: Any = "cpu", share: Any = (0, 1)) -> Any:
        own = list(batches(decoded, batch_size, device, share))
        most = (len(decoded.names) - 1) // batch_size // share[1] + 1
        spare = next(batches(decoded, batch_size, device))
        return iter(own + [own[-1] if own else spare] * (most - len(own)))

    return every


DEFECTS: dict[str, Defect] = {
    "write without rename": replace_attribute("runs.atomic", "atomic_path", lambda _: write_without_rename),
    "write without fsync": replace_attribute("runs.atomic", "rename_into_place", lambda _: rename_without_fsync),
    "no fsync of the folder": replace_attribute("runs.atomic", "sync_folder", do_nothing),
    "sample order ignores the seed": replace_attribute("data.loader", "epoch_order", unseeded_order),
    "resume without optimizer state": replace_attribute("engine.training_state", "restore", skip_optimizer),
    "checksum compared with itself": replace_attribute("runs.tensor_file", "sha256", trust_recorded_digest),
    "no timeout between processes": replace_attribute("train", "process_group", one_hour_timeout),
    "evaluation pads uneven batches": replace_attribute("engine.evaluate", "evaluation_batches", pad_batches),
}


def select(*names: str) -> dict[str, Defect]:
    """The defects with these names."""
    return {name: DEFECTS[name] for name in names}
