"""The process of one trial: `python -m sightline.sweep.child FOLDER PARENT COMMAND...` trains the run in FOLDER.

NAME is the name of FOLDER, and PARENT the id of the process that started this one. The recipe is read from
`logs/NAME.yaml` next to FOLDER. Exit status and error message are written to `logs/NAME.json`. COMMAND is the command
line of the sweep, which is recorded in provenance.json.
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
from ..runs.atomic import WINDOWS, process_exists, write_json
from ..runs.run_folder import CHANGEABLE, differences, value_of
from ..tasks.files import load_recipe_file
from ..train import resume, train
from ..user_code import loaded
from .trial import CODE_VARIABLE, in_one_line, log_file

PARENT_CHECK_SECONDS = 0.1


def main(folder: Path, parent: int) -> None:
    """Train the trial. Exit at once if the parent process ends, even if it was ended by `kill -9`."""

    def watch_parent() -> None:
        # On Windows, the parent id is that of the launcher of a virtual environment, and does not change at its end.
        while process_exists(parent) if WINDOWS else os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch_parent, daemon=True).start()
    write_json(log_file(folder, "json"), train_trial(folder))


def train_trial(folder: Path) -> dict[str, Any]:
    """Train or resume the run of a trial; returns {"status": exit status, "message": error message or ""}."""
    try:
        with loaded(os.environ.get(CODE_VARIABLE) or None):
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
    """Resume the run of a trial from its checkpoint. Train it from the start if it has no checkpoint or cannot be
    resumed."""
    if any((folder / "checkpoints" / "last").glob("state-*.safetensors")):
        try:
            resume(folder, **changed_settings(folder, config))
            return
        except SightlineError as error:
            if error.status != USER:
                raise
            print(f"cannot resume this trial; training it from the start:\n{error}", flush=True)
    train(config, out=folder, overwrite=True)


def changed_settings(folder: Path, config: Config) -> dict[str, Any]:
    """Those settings of `config` that differ from the run in `folder` and that a resumed run may change: a command may
    differ in them from the one that began the trial, such as in `train.on_out_of_memory`."""
    old = load_recipe_file(folder / "recipe.yaml")
    changed = [key for key in differences(old, config) if key in CHANGEABLE]
    return {key: value_of(config, key) for key in changed}


if __name__ == "__main__":
    run_folder, parent_id, *sys.argv = sys.argv[1:]  # so that provenance.json records the command of the sweep
    main(Path(run_folder), int(parent_id))
