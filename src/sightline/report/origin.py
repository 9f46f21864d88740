"""Where a run comes from: its command, recipe and provenance, as sections of the page."""

import shlex
from collections.abc import Mapping
from typing import Any

from ..config import Config
from .html import Child, element, missing_note, table
from .run import RunFiles


def recipe(files: RunFiles) -> list[Child]:
    """How to repeat the run, what its recipe changes, the recipe whole."""
    command = files.provenance.get("command")
    typed = shlex.join(map(str, command)) if isinstance(command, list) else str(command or "")
    parts: list[Child] = []
    if typed:
        parts += [element("h3", "The command"), element("pre", element("code", typed), class_="scroll", tabindex="0")]
    if not files.recipe:
        return [*parts, missing_note("There is no recipe.yaml that can be read.")]
    defaults = flat(Config().model_dump(mode="json"))
    changed = [[key, shown(value), shown(defaults.get(key))] for key, value in flat(files.recipe).items()
               if key not in defaults or value != defaults[key]]  # fmt: skip
    return [
        *parts,
        element("h3", "What the recipe changes"),
        table(["Setting", "This run", "Default"], changed, numeric=9) if changed else element("p", "Nothing."),
        element("details", element("summary", "The whole recipe"), element("pre", element("code", files.recipe_text))),
    ]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key; a model's own arguments stay one value."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name != "model.args":
            result |= flat(value, f"{name}.")
        else:
            result[name] = value
    return result


def shown(value: object) -> str:
    """A setting's value for people."""
    if value is None or value == "":
        return "(none)"
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "(none)"
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(inner)}" for key, inner in value.items()) or "(none)"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def provenance(files: RunFiles) -> list[Child]:
    """Data, machine, versions, and the notes that the run left."""
    known = {key: value for key, value in files.provenance.items() if key not in ("command", "notes", "data")}
    data = files.provenance.get("data")
    if isinstance(data, dict):
        known |= {f"data {key}": value for key, value in data.items() if key != "classes"}
    rows = [[key.replace("_", " "), shown(value)] for key, value in known.items()]
    notes = files.provenance.get("notes")
    parts: list[Child] = []
    if isinstance(notes, list) and notes:
        parts += [element("h3", "Notes"), element("ul", [element("li", str(note)) for note in notes])]
    if not rows:
        return [*parts, missing_note("There is no provenance.json that can be read.")]
    return [*parts, element("h3", "Origin"), table(["", ""], rows, numeric=9)]
