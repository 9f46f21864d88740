"""`sightline recipes`: list the built-in recipes, or print one as YAML."""

import os

from ..config.resolve import to_yaml
from ..transfer.grid import grid_yaml
from ..user_code import accepts_code
from . import GRIDS, RECIPES, documentation, load_grid, load_recipe, summary


@accepts_code
def recipes(name: str | None = None, *, code: str | os.PathLike[str] | None = None) -> str:
    """List the built-in recipes, one per line; or return all settings of one as YAML, with its docstring as comment.

    code: a file of your own code, whose recipes are listed too."""
    if name is None:
        names = [*RECIPES, *GRIDS]
        width = max(map(len, names))
        return "\n".join(f"{recipe:<{width}}  {summary(recipe)}" for recipe in names)
    text = grid_yaml(load_grid(name)) if name in GRIDS else to_yaml(load_recipe(name))
    lines = documentation(name).splitlines() if name in RECIPES or name in GRIDS else []
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + text.rstrip()
