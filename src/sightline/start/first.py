"""The recipe that `sightline train` takes if none is named."""

from typing import Any

from ..config.resolve import resolve
from ..config.schema import Config
from ..errors import ENVIRONMENT, SightlineError
from ..models.encoder_weights import require_weights
from ..recipes.ladders import FIRST, LADDERS
from ..runs.terminal import print_plain
from .plan import median_side
from .pretrained import unavailable
from .run import look


def first_recipe(data: str | None, settings: dict[str, Any]) -> Config:
    """The recipe for `data`, by its labels or masks and by whether pre-trained weights are available; it is printed.

    Colors of masks are those of `settings` or of the data, not of the recipe. Raises SightlineError without data, for
    `model.weights` that do not exist, before the data are opened, and as `start.run.look`.
    """
    if not data and "data.path" not in settings:
        cure = "name the data: sightline train --data PATH; or a recipe too; to list them: sightline recipes"
        raise SightlineError("a recipe or data are missing", where="sightline train", cure=cure)
    given = str(settings.get("model.weights", ""))
    if given and (error := unavailable(given, str(settings.get("model.name", "")))):
        raise error
    kind, source, _ = look(settings | {"data.path": data or settings["data.path"]}, lambda text: None)
    steps = {step.name: step for step in LADDERS[kind](median_side(source))}
    tuned, scratch = next(steps[name] for name in FIRST[0] if name in steps), steps[FIRST[1]]
    model = resolve(tuned.config, {key: value for key, value in settings.items() if key.startswith("model.")}).model
    reason = "model.weights is none" if given == "none" else ""
    try:
        require_weights(model.weights, model.name, model.args)
    except SightlineError as error:
        if given or error.status != ENVIRONMENT:
            raise
        reason = f"{error.what}: {error.why}"
    if reason:
        print_plain(f"recipe: {scratch.config.name} ({scratch.title}), because {reason}")
        return scratch.config
    why = f"with the weights {model.weights} it needs few images and minutes"
    print_plain(f"recipe: {tuned.config.name} ({tuned.title}), because {why}; to compare recipes: sightline start")
    return tuned.config
