"""`sightline recipes`: list the built-in recipes, or print one as YAML."""

import os
from textwrap import indent

from ..config.described import changed, explained_yaml
from ..config.schema import Config
from ..transfer.grid import STAGES, Grid
from ..user_code import accepts_code
from . import DEMO, GRIDS, RECIPES, REPORTS, documentation, load_grid, load_recipe, summary

PARTLY = "Settings that differ from the defaults; to print all: sightline recipes {} --all"


@accepts_code
def recipes(name: str | None = None, *, all: bool = False, code: str | os.PathLike[str] | None = None) -> str:
    """List the recipes, one per line; or return one as YAML, which is a valid recipe file: its docstring and the
    settings that differ from the defaults, each with an explanation.

    all: return all settings, first those that differ from the defaults.
    code: a file of your own code, whose recipes are listed too."""
    if name is None:
        return listing()
    lines = documentation(name).splitlines() if name in RECIPES or name in GRIDS else []
    lines += ["", PARTLY.format(name)] if not all else []
    text = grid_text(load_grid(name), all) if name in GRIDS else config_text(load_recipe(name), all)
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + text


def listing() -> str:
    """The names and summaries of all recipes, under three headings."""
    names = [*RECIPES, *GRIDS]
    width = max(map(len, names))
    own = [name for name in names if name not in (*REPORTS, *DEMO)]
    groups = {"For your own images": own, "The demo": DEMO, "Settings of course reports and papers": REPORTS}
    lines: list[str] = []
    for title, members in groups.items():
        lines += ["", f"{title}:", *(f"  {name:<{width}}  {summary(name)}" for name in members)]
    return "\n".join(lines[1:])


def config_text(config: Config, all: bool) -> str:
    """A configuration as YAML with explanations. all: also the settings with default values, after the others of their
    section."""
    values = changed(config)
    if all:
        every = config.model_dump(mode="json")
        values = {
            name: {**values.get(name, {}), **value} if name in values and isinstance(value, dict) else value
            for name, value in sorted(every.items(), key=lambda item: item[0] not in values)
        }
    return explained_yaml(values, type(config))


def grid_text(grid: Grid, all: bool) -> str:
    """A transfer grid as YAML: its own settings, and those of each stage with explanations."""
    own = {name: value for name, value in grid.model_dump(mode="json").items() if name not in STAGES}
    stages = [f"{stage}:\n" + indent(config_text(getattr(grid, stage), all), "  ") for stage in STAGES]
    return "\n".join([explained_yaml(own, type(grid.full)), *stages])
