"""Sections of a run's page on its commands, its recipe and its provenance (data, machine, versions)."""

import shlex
from collections.abc import Mapping
from typing import Any

from ..insight.curves import number
from ..insight.style import si_number
from .formatting import known, section
from .html import Child, Html, element, missing_note, table
from .run import RunFiles

NAMES = {
    "git_commit": "Sightline commit",
    "platform": "Operating system",
    "precision_setting": "Setting of the precision",
    "weights": "Weights at the start",
    "train_flops": "FLOPs of the training, planned",
    "train_flops_done": "FLOPs of the training, done",
    "train_flops_per_image": "FLOPs of the training per image",
}
CHANGED = "Settings that differ from the defaults"
PLAIN = (
    "device",
    "git_commit",
    "platform",
    "precision",
    "precision_setting",
    "threads",
    "seed",
    "parameters",
    "versions",
)


def recipe(files: RunFiles, defaults: Mapping[str, Any]) -> list[Child]:
    """Section: the commands of the run, the settings that differ from the defaults, the complete recipe."""
    parts = commands(files)
    if not files.recipe:
        return [*parts, missing_note("recipe.yaml is missing or cannot be read.")]
    return [
        *parts,
        element("h3", CHANGED),
        changed_settings(flat(files.recipe), defaults, "This run"),
        element("details", element("summary", "Complete recipe"), element("pre", element("code", files.recipe_text))),
    ]


def changed_settings(values: Mapping[str, Any], defaults: Mapping[str, Any], heading: str) -> Html:
    """Table of the settings, by dotted key, that differ from the defaults. heading: of the column of values."""
    rows = [[key, shown(value), shown(defaults.get(key))] for key, value in values.items()
            if key not in defaults or value != defaults[key]]  # fmt: skip
    return table(["Setting", heading, "Default"], rows, CHANGED, kind="facts") if rows else element("p", "None.")


def commands(files: RunFiles) -> list[Child]:
    """The command that started the run, and the commands that resumed it."""
    entries = files.provenance.get("resumes")
    resumes = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    parts: list[Child] = [element("h3", "Commands, in order" if resumes else "Command")]
    parts.append(typed(files.provenance.get("command")))
    versions = section(files.provenance, "versions")
    for entry in resumes:
        parts += [element("p", resumed(entry, versions), class_="row"), typed(entry.get("command"))]
        versions = section(entry, "versions") or versions
    return parts


def resumed(entry: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """A line on one resume of a run: its step, and the settings and versions that changed.

    before: the versions of libraries before this resume.
    """
    step = number(entry.get("step"))
    start = "Resumed" if step != step else f"Resumed after step {step:,.0f}"
    changes = [f"{key} {change(value)}" for key, value in section(entry, "changed").items()]
    now = section(entry, "versions")
    changes += [f"{name} {change([before.get(name), now[name]])}" for name in now if now[name] != before.get(name)]
    return f"{start}{', with ' if changes else ''}{'; '.join(changes)}:"


def change(pair: object) -> str:
    """[old, new] as text with an arrow between the two; any other value as text."""
    return f"{shown(pair[0])} \u2192 {shown(pair[1])}" if isinstance(pair, list) and len(pair) == 2 else shown(pair)


def typed(command: object) -> Html:
    """A list of command-line arguments as a shell command; a note that the command is unknown for any other value."""
    known_words = isinstance(command, list) and command
    return command_box(shlex.join(map(str, command))) if known_words else missing_note("The command is unknown.")


def command_box(text: str) -> Html:
    """A command in a box."""
    return element("pre", element("code", text), class_="scroll", tabindex="0")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested values to dotted keys; `model.args` is not flattened."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name != "model.args":
            result |= flat(value, f"{name}.")
        else:
            result[name] = value
    return result


def shown(value: object) -> str:
    """The value of a setting as text."""
    if value is None or value == "":
        return "(none)"
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "(none)"
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(inner)}" for key, inner in value.items()) or "(none)"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def provenance(files: RunFiles) -> list[Child]:
    """Section: notes of the run, then data, machine and versions."""
    elsewhere = ("command", "notes", "data", "pixels", "resumes")
    facts = {key: value for key, value in files.provenance.items() if key not in elsewhere}
    facts |= {f"data {key}": value for key, value in section(files.provenance, "data").items() if key != "classes"}
    done = [record for record in files.records if record.get("event") == "done" and "train_flops" in record]
    if done:
        facts["train_flops_done"] = done[-1]["train_flops"]
    rows = [[NAMES.get(key) or title(key), fact(key, value)] for key, value in facts.items()]
    notes = files.provenance.get("notes")
    parts: list[Child] = []
    if isinstance(notes, list) and notes:
        parts += [element("h3", "Notes"), element("ul", [element("li", str(note)) for note in notes], class_="notes")]
    if not rows:
        return [*parts, missing_note("provenance.json is missing or cannot be read.")]
    heading = "Data, machine, versions"
    return [*parts, element("h3", heading), table(["", ""], rows, heading, kind="facts")]


def title(key: str) -> str:
    """A key of provenance.json as a heading."""
    words = key.replace("_", " ").replace("flops", "FLOPs")
    return words[:1].upper() + words[1:]


def fact(key: str, value: object) -> str:
    """A value of provenance.json as text. key: its key, which determines the format."""
    count = number(value)
    if "flops" in key and count > 0:
        return f"{si_number(count)}FLOPs"
    if key == "started":
        return known(value).replace("T", " ", 1)
    if key == "data digest" and isinstance(value, dict):  # shortened
        return shown({split: known(text)[:12] for split, text in value.items()})
    if key != "seed" and count >= 1000 and count == int(count):
        return f"{count:,.0f}"
    return known(value) if key in PLAIN and not isinstance(value, dict) else shown(value)
