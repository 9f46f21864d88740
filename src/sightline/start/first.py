"""The recipe that `sightline train` takes if none is named."""

from typing import Any

from ..errors import SightlineError
from ..models.weights import find_weights
from ..recipes.ladders import FIRST, LADDERS
from ..runs.terminal import print_plain
from .run import look, median_side


def first_recipe(data: str | None, settings: dict[str, Any]) -> str:
    """The name of the recipe for `data`, by its labels and by whether pre-trained weights can be had; it is printed.

    Raises SightlineError without data, and as `start.run.look`.
    """
    if not data and "data.path" not in settings:
        cure = "name the data: sightline train --data PATH; or a recipe too; to list them: sightline recipes"
        raise SightlineError("a recipe or data are missing", where="sightline train", cure=cure)
    kind, source, _ = look(settings | {"data.path": data or settings["data.path"]}, lambda text: None)
    steps = {step.name: step for step in LADDERS[kind](median_side(source))}
    tuned, scratch = next(steps[name] for name in FIRST[0] if name in steps), steps[FIRST[1]]
    try:
        if "model.weights" not in settings:
            find_weights(tuned.config.model.weights, tuned.config.model.name)
    except SightlineError as error:
        print_plain(f"recipe: {scratch.config.name} ({scratch.title}), because {error.what}: {error.why}")
        return scratch.config.name
    why = "it needs few images and minutes; to compare it with other recipes: sightline start"
    print_plain(f"recipe: {tuned.config.name} ({tuned.title}), because {why}")
    return tuned.config.name
