"""`sightline evaluate`: metrics of a run on a split of its data, or on other data."""

import os
from typing import Any

from .config.paths import absolute
from .config.resolve import flat, resolve, with_data
from .engine.memory import explain_out_of_memory
from .errors import SightlineError
from .models.pretrained.preprocessing import with_own_preprocessing
from .runs import run_folder
from .runs.atomic import finite
from .runs.terminal import print_plain, print_warning
from .tasks import TASKS
from .tasks.files import load_recipe_file
from .user_code import accepts_code


@accepts_code
def evaluate(
    run: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    split: str | None = None,
    quiet: bool = False,
    code: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Compute the metrics of a run's best weights on a split of the run's own data, or on `data`, with 95 % intervals.

    split: by default `val`, or the only split of the data. For the run's own data, `val` gives the same metrics as
    training. Returns {metric: value, metric_interval: [low, high]}, with None for an interval that cannot be given, and
    as `selection` a sentence if the weights were chosen on these images. An evaluation of a test split or of other data
    is counted as a look at this test set, across runs: `look` and `look_runs`. Predictions for the run's own data are
    written to predictions/SPLIT.csv. settings: `data.*`, how `data` are read, as for `train`.
    """
    folder = run_folder.existing(run)
    run_folder.require_weights(folder)
    run_folder.require_writable(folder, "evaluate")
    say = print_warning if quiet else print_plain
    config = load_recipe_file(folder / "recipe.yaml")
    own = config.data.path  # empty in exported weights, and the absolute path of "" is the current folder
    other = "" if data is None or (own and absolute(os.fspath(data)) == absolute(own)) else os.fspath(data)
    if settings and not other:
        cure = "give other data with --data PATH, or leave these settings out"
        raise SightlineError("the run's own data are read as for training", where=", ".join(settings), cure=cure)
    if odd := [key for key in flat(settings, "the arguments") if not key.startswith("data.")]:
        cure = "leave them out: an evaluation has the settings of the run, but for data.*"
        raise SightlineError("these settings do not apply to an evaluation", where=", ".join(odd), cure=cure)
    if other:
        config = resolve(config, {"data.layout": "auto", "data.leave_out": ()} | with_data(settings, other))
        config, _ = with_own_preprocessing(config)
    if not run_folder.is_finished(folder):
        say("this run is not finished: these are the numbers of its best weights so far")
    if not other and split == "train":
        say("the model was trained on these images: the metrics do not show how well it generalizes")
    with explain_out_of_memory(config, f"{folder}/recipe.yaml"):
        found = finite(TASKS[config.task].evaluate(folder, config, other, split, say))
    own_images = found["split"] == "val" and "look" not in found  # other data are looked at
    chosen = (run_folder.final_record(folder) or {}).get("selection") if own_images else None
    return found | ({"selection": chosen} if chosen else {})
