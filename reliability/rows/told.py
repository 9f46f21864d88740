"""Names that would steer a terminal, tear a table or break JSON: in what commands print, in CSV, in a server's answers.

Formulas that a spreadsheet would compute are not looked for: tables hold names as they are.
"""

import asyncio
import contextlib
import csv
import importlib
import io
import json
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np

from reliability import named
from reliability.contract import Outcome, Row, Settings
from reliability.mutants import scene
from reliability.rows.names import PAYLOADS, TOGETHER, steering
from reliability.rows.server import train_toy
from sightline import __main__ as command
from sightline import errors
from sightline.config.resolve import to_yaml
from sightline.config.schema import Config
from sightline.engine import setup
from sightline.inference import resumable_csv
from sightline.runs import csv_io, terminal
from sightline.tasks.files import configured

commands: Any = importlib.import_module("sightline.recipes.listing")
results: Any = importlib.import_module("sightline.tasks.classify.results")
SECTION = "Hostile input"
STEERING = (
    "\x1b[2J", "\x1b]0;owned\x07", "\x1b]8;;http://evil.com\x07x", "\x9b31m", "\x08\x08\x08", "\x7f", "a\rb", "\x85",
    "\u202egnp.exe", "\u2066x\u2069", "\u200f", "a\u2028b", "\udcff", "\ufeff", "\ue000", "\U000e0041", "\t",
)  # fmt: skip
ALL = "\x1b[2J\x9b31m\x08\r\u202e\u2066\u2028\udcff\x07"
TEARING = (
    '"',
    ",",
    "a\nb",
    "\r",
    "\r\n",
    '",\r"',
    "a,b;c\td",
    "'",
    "\\",
    "#",
    "=1+1",
    " a ",
    "\udcff,\udcfe",
    "\ud800",
)


class Screen(io.BytesIO):
    """What is shown on a terminal."""

    def isatty(self) -> bool:
        return True


def shown(words: Sequence[str]) -> tuple[int, str]:
    """(exit status, all that a command shows) on a terminal that takes UTF-8 and nothing else."""
    screen = Screen()
    output = io.TextIOWrapper(screen, encoding="utf-8", write_through=True)
    troubled = io.TextIOWrapper(screen, encoding="utf-8", errors="backslashreplace", write_through=True)  # as Python's
    dumb = mock.patch.dict(os.environ, {"TERM": "dumb"})
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(troubled), dumb, named.without_figures():
        status = command.run(list(words))
    return status, screen.getvalue().decode("utf-8")


def commands_about(place: Path, run: Path, name: str) -> dict[str, tuple[list[str], tuple[int, ...]]]:
    """By name, a command that has to speak of things that are called by `name`, and how it may end: with 2 where the
    library of safetensors takes no path that is not UTF-8."""
    name = named.as_file(name)
    hostile = shutil.copytree(run, place / f"run {name}")
    pictures = place / f"pictures {name}"
    for label in range(2):
        (pictures / f"{label} {name}").mkdir(parents=True)
        for number in range(3):
            scene((16, 16), seed=number + 3 * label).save(pictures / f"{label} {name}" / f"{number} {name}.png")
    (pictures / f"0 {name}" / f"bad {name}.png").write_bytes(b"no picture")
    recipe = place / f"recipe {name}.yaml"
    recipe.write_text(to_yaml(configured({"name": name})), encoding="utf-8")
    wrong = place / f"wrong {name}.yaml"
    wrong.write_text(json.dumps({name: 1}), encoding="utf-8")
    two = [str(named.write_run(place / f"{number} {name}", name)) for number in range(2)]
    out = str(place / f"out {name}")
    return {
        "predict": (
            ["predict", str(hostile), str(pictures), "--out", f"{out}.csv"],
            (0, 2),
        ),  # 2: safetensors takes UTF-8 paths alone
        "doctor": (["doctor", str(pictures), "--out", f"{out} doctor"], (5,)),
        "resume": (["resume", str(hostile)], (0, 2)),
        "evaluate": (["evaluate", str(hostile), "--data", str(pictures)], (0, 2)),
        "report": (["report", two[0]], (0,)),
        "comparison": (["report", *two, "--out", f"{out} compared"], (0,)),
        "recipes": (["recipes", str(recipe)], (0,)),
        "wrong recipe": (["train", str(wrong), "--data", str(pictures)], (2,)),
        "no data": (["train", "digits", "--data", f"{place}/nowhere {name}", "--out", f"{out} run"], (2,)),
        "no option": (["train", "digits", f"--optim.{name}", "1"], (2,)),
        "no command": ([name], (2,)),
        "no run": (["report", f"{place}/nowhere {name}"], (2,)),
        "pack": (["pack", str(pictures), f"{out} packed"], (0, 2)),
    }


def check_terminal(settings: Settings) -> Outcome:
    """Commands on hostile names, a fault with one in its words, and a fault of the server."""
    train_toy(settings.folder)
    (settings.folder / "run" / "secret.txt").unlink()
    names = (ALL,) if settings.short else (*STEERING, ALL)
    tried, failures = 0, []
    for number, name in enumerate(names):
        place = settings.folder / str(number)
        place.mkdir()
        for kind, (words, statuses) in commands_about(place, settings.folder / "run", name).items():
            if settings.seen(failures):
                break
            tried += 1
            status, text = shown(words)
            if status not in statuses or "Traceback" in text:
                failures.append(f"{kind}, {name!r}: status {status}, {text[-300:]}")
            if marks := steering(text):
                failures.append(f"{kind}, {name!r}: {marks!r} reached the terminal")
        for kind, text in (("a fault", a_fault(name)), ("a fault of the server", a_servers_fault(name))):
            tried += 1
            if steering(text) or "Traceback" not in text:
                failures.append(f"{kind}, {name!r}: {steering(text)!r} reached the terminal: {text[-200:]}")
    return Outcome(tried, tuple(failures), {"names": len(names)})


def a_fault(name: str) -> str:
    """What is shown of a fault in Sightline whose words hold the name."""
    with mock.patch.object(commands, "recipes", mock.Mock(side_effect=ValueError(name))):
        status, text = shown(["recipes"])
    return text if status == 1 else f"status {status}"


def a_servers_fault(name: str) -> str:
    """The same of a route of `sightline serve`."""
    from fastapi import FastAPI

    from sightline.serve.app import add_errors

    app, screen = FastAPI(), Screen()
    add_errors(app)
    handler: Any = app.exception_handlers[Exception]
    try:
        raise ValueError(name)
    except ValueError as error:
        stream = io.TextIOWrapper(screen, encoding="utf-8", errors="backslashreplace", write_through=True)
        with contextlib.redirect_stderr(stream):
            asyncio.run(handler(SimpleNamespace(url=SimpleNamespace(path=f"/{name}")), error))
    return screen.getvalue().decode("utf-8")


@contextlib.contextmanager
def as_it_is() -> Generator[None]:
    """Printing of text as it is."""
    with mock.patch.object(terminal, "printable", str):
        yield


@contextlib.contextmanager
def raw_errors() -> Generator[None]:
    """Errors that say names as they are."""
    with mock.patch.object(errors, "printable", str), mock.patch.object(command, "printable", str):
        yield


# ------------------------------------------------------------------------------------------------- tables and answers


def tables_of(folder: Path, name: str) -> dict[str, Callable[[], list[list[str]]]]:
    """By name, what writes a table of pictures and classes that are called by `name`, and reads back its rows
    (filename, label)."""
    names, classes = tuple(f"{name}{place}{name}" for place in range(3)), (f"a{name}", f"{name}b")
    labels, shares = np.array([0, 1, 1]), np.array([[0.75, 0.25], [0.25, 0.75], [0.25, 0.75]])
    decoded = cast(Any, SimpleNamespace(names=names, classes=classes, labels=labels))
    wanted = [[names[row], classes[label]] for row, label in enumerate(labels)]

    def run() -> list[list[str]]:
        from sightline.report.run import read_predictions

        found = read_predictions(results.write_predictions(folder / "val.csv", decoded, shares))
        return [[row, found.classes[place]] for row, place in zip(found.names, found.predicted, strict=True)]

    def predicted() -> list[list[str]]:
        table = resumable_csv.ResumableTable(folder / "guesses.csv", ["filename", "label", "confidence"])
        table.begin({}, True)
        table.add([[*row, "1"] for row in wanted])
        return rows_of(table.finish())

    def splits() -> list[list[str]]:
        parts = cast(Any, SimpleNamespace(train=decoded, val=decoded))
        setup.write_splits(folder / "splits.csv", parts)
        return rows_of(folder / "splits.csv")[:3]

    return {"predictions/val.csv": run, "predict's table": predicted, "splits.csv": splits}


def rows_of(path: Path) -> list[list[str]]:
    """The first two columns of a table, as any reader of CSV has them."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [row[:2] for row in list(csv.reader(file, strict=True))[1:]]


def answers_of(name: str) -> dict[str, bytes]:
    """By name, bodies of `sightline serve` with names in them."""
    from sightline.serve.guard import error_response
    from sightline.serve.models import ExampleImages, ServedClassifier, ServedSegmenter
    from sightline.serve.neighbors import NeighborIndex
    from sightline.serve.schemas import ErrorDetail, PredictResponse, ServerInfo

    classes = (f"a{name}", f"{name}b")
    train = cast(Any, SimpleNamespace(names=(name,), labels=np.array([1]), classes=classes))
    neighbors = NeighborIndex(train, np.array([0]), "", np.ones((1, 1), np.float32), 1)
    parts = cast(Any, SimpleNamespace(palette=named.palette_of(name)))
    examples = ExampleImages((np.zeros((3, 8, 8), np.uint8),), (name,), (classes[0],))
    common: Any = {"name": "a model", "config": Config(), "classes": classes, "examples": examples}
    model = ServedClassifier(**common, predictor=cast(Any, None), neighbors=neighbors)
    labels = model.answer(np.array([0.75, 0.25]), np.ones(1, np.float32))
    common["classes"] = parts.palette.classes
    mask = ServedSegmenter(**common, parts=parts).answer(np.zeros((4, 4), np.uint8))
    response = PredictResponse(width=1, height=1, seconds=1.0, answers=[labels, mask])
    info = ServerInfo(models=[model.info()], segment_anything="", most_bytes=1)
    return {
        "answers": response.model_dump_json().encode(),
        "models": info.model_dump_json().encode(),
        "a refusal": bytes(error_response(400, ErrorDetail(what="w", why=errors.printable(name))).body),
    }


def check_tables(settings: Settings) -> Outcome:
    """Every name through every table and back to itself; every answer JSON that holds no character that steers."""
    names = (ALL, ",".join(TEARING[:6])) if settings.short else (*PAYLOADS, TOGETHER, *STEERING, *TEARING, ALL)
    tried, failures = 0, []
    for name in names:
        wanted = [[f"{name}{place}{name}", (f"a{name}", f"{name}b")[min(place, 1)]] for place in range(3)]
        for kind, write in tables_of(settings.folder, name).items():
            tried += 1
            try:
                found = write()
            except Exception as error:
                failures.append(f"{kind}, {name!r}: {type(error).__name__}: {error}")
                continue
            escaped = [[text.encode("utf-8", "backslashreplace").decode() for text in row] for row in wanted]
            if found != (escaped if "\ud800" in name else wanted):
                failures.append(f"{kind}, {name!r}: came back as {found}")
        try:
            bodies = answers_of(name)
        except Exception as error:
            bodies = {f"answers ({type(error).__name__}: {error})": b"{"}
        for kind, body in bodies.items():
            tried += 1
            failures += [f"{kind}, {name!r}: {fault}" for fault in [broken_answer(body)] if fault]
    return Outcome(tried, tuple(failures), {"names": len(names)})


def broken_answer(body: bytes) -> str:
    """Why a body cannot be shown as it is, or ""."""
    try:
        texts = list(texts_in(json.loads(body)))
    except ValueError as error:
        return str(error)
    marks = steering("".join(texts))
    return f"holds {marks!r}" if marks else ""


def texts_in(value: Any) -> Generator[str]:
    """All texts of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts_in(inner)


@contextlib.contextmanager
def plain_tables() -> Generator[None]:
    """Tables as csv.writer writes them in Python 3.11."""

    def text_of(rows: Any) -> bytes:
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows(rows)
        return file.getvalue().encode("utf-8", "surrogateescape")

    with contextlib.ExitStack() as stack:
        for module in (csv_io, results, setup, resumable_csv):
            stack.enter_context(mock.patch.object(module, "csv_text", text_of))
        yield


@contextlib.contextmanager
def plain_answers() -> Generator[None]:
    """Answers with names as they are."""
    from sightline.serve import models

    with mock.patch.object(models, "printable", str):
        yield


ROWS = (
    Row(
        "names in a terminal",
        SECTION,
        "names with control characters, escapes of terminals or marks that turn text are printed in escapes: in what "
        "commands say, in errors, in the words of faults",
        check_terminal,
        {"text is printed as it is": as_it_is, "errors say names as they are": raw_errors},
        quick=False,
    ),
    Row(
        "names in tables and answers",
        SECTION,
        "any name goes through CSV and back; answers of `sightline serve` are JSON without characters that steer",
        check_tables,
        {"tables as csv.writer writes them": plain_tables, "answers with names as they are": plain_answers},
    ),
)
