"""`sightline.load`: the trained model of a run as an object, for notebooks and programs."""

import os

from .inference.loaded import Loaded
from .runs import run_folder
from .tasks import TASKS
from .tasks.files import load_recipe_file
from .user_code import accepts_code


@accepts_code
def load(run: str | os.PathLike[str], *, code: str | os.PathLike[str] | None = None) -> Loaded:
    """Load the trained model of a run: `sightline.load("runs/first").predict("cat.jpg")`.

    The object has `.predict(images)`, `.features(images)`, `.transform(image)`, `.model` and `.classes`; see
    `inference.loaded.Loaded`. Predictions are those of `sightline predict`: with the weights of the best epoch, on the
    run's device if this machine has it. The number of threads and the random state of torch do not change.
    code: the file of your own code with which the run was trained, see docs/extend.md.

    Raises SightlineError if `run` is not a run folder or has no weights yet.
    """
    folder = run_folder.existing(run)
    config = load_recipe_file(folder / "recipe.yaml")
    task = TASKS[config.task]
    function = task.supported(task.load, "load", str(folder))
    return function(folder, config)
