"""One of the processes of a distributed trial: `python ranks_child.py train|evaluate DATA ... HARM`."""

import errno
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]


def train(data: str, out: str, recipe: str, limit: str, harm: str) -> int:
    """Train until something happens; with `harm` this process raises, starves the others, or has a full disk, once a
    file lies there."""
    from sightline import SightlineError, files
    from sightline.__main__ import tell

    loop: Any = importlib.import_module("sightline.train")
    sign, real = Path(f"{out}.harm"), loop.note_step

    def harmful(*arguments: Any) -> None:
        real(*arguments)
        if harm and sign.exists():
            if harm == "raises":
                raise ValueError("on purpose")
            if harm == "cannot save":
                setattr(files, "adopt", refused)  # noqa: B010
                return
            time.sleep(600)

    loop.note_step = harmful
    endless = {"train.epochs": 5000, "train.evaluate_every": 5000, "train.rank_timeout_seconds": float(limit)}
    try:
        loop.train(recipe, data, out=out, quiet=True, **endless)
    except SightlineError as error:
        tell(error)
        return error.status
    except ValueError:
        return 1
    return 0


def refused(temporary: Path, path: Path, need: int = 0) -> None:
    """The last step of a write on a full disk."""
    from sightline.files import disk_error

    raise disk_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), need)


def evaluate(data: str, out: str) -> int:
    """Whether this process and the others get the numbers of one, for 1 to 9 images."""
    import numpy as np

    from reliability import toys
    from sightline import ranks
    from sightline.build import build
    from sightline.config import Config
    from sightline.data.cache import Decoded, subset
    from sightline.evaluate import evaluate as measure
    from sightline.settings import resolve

    config = resolve(
        Config(name="toy"), toys.COMMON | toys.SETTINGS["classify"] | {"data.path": data, "report.samples": 0}
    )
    parts = build(config, lambda text: None)
    assert isinstance(parts.train, Decoded)
    splits = [subset(parts.train, np.arange(count)) for count in range(1, 10)]

    def numbers() -> list[dict[str, float]]:
        return [measure(parts.task, split, 2, parts.device, parts.dtype)[0] for split in splits]

    alone = numbers()
    with ranks.joined(60) as world:
        together = numbers()
    if world.leads:
        same = {count: first == second for count, (first, second) in enumerate(zip(alone, together, strict=True), 1)}
        Path(out).write_text(json.dumps(same))
    return 0


def main() -> int:
    """Install what the environment says is broken, then do as told."""
    from reliability.breakage import install_named

    os.environ.setdefault("SIGHTLINE_CACHE", str(Path(sys.argv[2]).parent / "cache"))
    with install_named():
        kind, *arguments = sys.argv[1:]
        return train(*arguments) if kind == "train" else evaluate(*arguments)


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)
