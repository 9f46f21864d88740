"""The process of one trial: `python -m sightline.sweep.child FOLDER PARENT COMMAND...` trains the run in FOLDER.

It reads the recipe from `logs/NAME.yaml` beside the folder, and writes its exit status to `logs/NAME.json`.
"""

import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from ..config.schema import Config
from ..errors import INTERRUPTED, USER, SightlineError
from ..runs.atomic import write_json
from ..tasks.files import load_recipe_file
from ..train import resume, train
from .trial import in_one_line, log_file

PARENT_CHECK_SECONDS = 0.1


def main(folder: Path, parent: int) -> None:
    """Train the trial; end at once if the parent process ends, even by `kill -9`."""

    def watch_parent() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch_parent, daemon=True).start()
    write_json(log_file(folder, "json"), train_trial(folder))


def train_trial(folder: Path) -> dict[str, Any]:
    """Train or resume the run of a trial; returns exit status and error message."""
    try:
        train_or_resume(folder, load_recipe_file(log_file(folder, "yaml")))
    except SightlineError as error:
        print(error, flush=True)
        return {"status": error.status, "message": in_one_line(error)}
    except KeyboardInterrupt:
        return {"status": INTERRUPTED, "message": "interrupted"}
    except Exception as error:
        traceback.print_exc()
        return {"status": 1, "message": f"{type(error).__name__}: {error}"}
    return {"status": 0, "message": ""}


def train_or_resume(folder: Path, config: Config) -> None:
    """Resume the run if it has a checkpoint; train from the start if it has none or the checkpoint is damaged."""
    if any((folder / "checkpoints" / "last").glob("state-*.safetensors")):
        try:
            resume(folder)
            return
        except SightlineError as error:
            if error.status != USER:
                raise
            print(f"this trial cannot be resumed and starts again:\n{error}", flush=True)
    train(config, out=folder, overwrite=True)


if __name__ == "__main__":
    run_folder, parent_id, *sys.argv = sys.argv[1:]  # provenance.json records the sweep's command
    main(Path(run_folder), int(parent_id))
