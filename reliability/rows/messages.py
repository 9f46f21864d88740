"""Control characters and separators in names: in printed messages, in CSV files, and in JSON responses.

Spreadsheet formulas are not checked, because tables contain names unchanged.
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

from reliability import page_fixtures
from reliability.contract import Outcome, Row, Settings
from reliability.mutations import synthetic_image
from reliability.rows.names import COMBINED, PAYLOADS, control_characters
from reliability.rows.server import train_toy
from sightline import __main__ as command
from sightline import errors
from sightline.config.resolve import to_yaml
from sightline.config.schema import Config
from sightline.engine import setup
from sightline.inference import resumable_csv
from sightline.runs import csv_io, terminal
from sightline.tasks.files import config_of

commands: Any = importlib.import_module("sightline.recipes.listing")
results: Any = importlib.import_module("sightline.tasks.classify.results")
SECTION = "Hostile input"
CONTROL_NAMES = (
    "\x1b[2J", "\x1b]0;owned\x07", "\x1b]8;;http://evil.com\x07x", "\x9b31m", "\x08\x08\x08", "\x7f", "a\rb", "\x85",
    "\u202egnp.exe", "\u2066x\u2069", "\u200f", "a\u2028b", "\udcff", "\ufeff", "\ue000", "\U000e0041", "\t",
)  # fmt: skip
ALL = "\x1b[2J\x9b31m\x08\r\u202e\u2066\u2028\udcff\x07"
CSV_NAMES = (
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


class Terminal(io.BytesIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def run_command(tokens: Sequence[str]) -> tuple[int, str]:
    """(exit status, output) of a command on a UTF-8 terminal."""
    terminal_output = Terminal()
    output = io.TextIOWrapper(terminal_output, encoding="utf-8", write_through=True)
    errors_output = io.TextIOWrapper(
        terminal_output, encoding="utf-8", errors="backslashreplace", write_through=True
    )  # as Python's stderr
    dumb = mock.patch.dict(os.environ, {"TERM": "dumb"})
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors_output),
        dumb,
        page_fixtures.without_figures(),
    ):
        status = command.run(list(tokens))
    return status, terminal_output.getvalue().decode("utf-8")


def commands_with(folder: Path, run: Path, name: str) -> dict[str, tuple[list[str], tuple[int, ...]]]:
    """By kind, a command whose messages contain `name`, and its allowed exit statuses.

    Status 2 is allowed where a run is read, because safetensors accepts UTF-8 paths only.
    """
    name = page_fixtures.as_file(name)
    hostile = shutil.copytree(run, folder / f"run {name}")
    images = folder / f"images {name}"
    for label in range(2):
        (images / f"{label} {name}").mkdir(parents=True)
        for number in range(3):
            synthetic_image((16, 16), seed=number + 3 * label).save(images / f"{label} {name}" / f"{number} {name}.png")
    (images / f"0 {name}" / f"bad {name}.png").write_bytes(b"not an image")
    recipe = folder / f"recipe {name}.yaml"
    recipe.write_text(to_yaml(config_of({"name": name}, str(recipe))), encoding="utf-8")
    wrong = folder / f"wrong {name}.yaml"
    wrong.write_text(json.dumps({name: 1}), encoding="utf-8")
    two = [str(page_fixtures.write_run(folder / f"{number} {name}", name)) for number in range(2)]
    out = str(folder / f"out {name}")
    return {
        "predict": (
            ["predict", str(hostile), str(images), "--out", f"{out}.csv"],
            (0, 2),
        ),
        "doctor": (["doctor", str(images), "--out", f"{out} doctor"], (5,)),
        "resume": (["resume", str(hostile)], (0, 2)),
        "evaluate": (["evaluate", str(hostile), "--data", str(images)], (0, 2)),
        "report": (["report", two[0]], (0,)),
        "comparison": (["report", *two, "--out", f"{out} compared"], (0,)),
        "recipes": (["recipes", str(recipe)], (0,)),
        "wrong recipe": (["train", str(wrong), "--data", str(images)], (2,)),
        "missing data": (["train", "digits", "--data", f"{folder}/nowhere {name}", "--out", f"{out} run"], (2,)),
        "unknown option": (["train", "digits", f"--optim.{name}", "1"], (2,)),
        "unknown command": ([name], (2,)),
        "missing run": (["report", f"{folder}/nowhere {name}"], (2,)),
        "pack": (["pack", str(images), f"{out} packed"], (0, 2)),
    }


def check_terminal(settings: Settings) -> Outcome:
    """Run commands on hostile names, and let a command and the server raise an exception whose text contains one."""
    train_toy(settings.folder)
    (settings.folder / "run" / "secret.txt").unlink()
    names = (ALL,) if settings.short else (*CONTROL_NAMES, ALL)
    tried, failures = 0, []
    for number, name in enumerate(names):
        folder = settings.folder / str(number)
        folder.mkdir()
        for kind, (tokens, statuses) in commands_with(folder, settings.folder / "run", name).items():
            if settings.detected(failures):
                break
            tried += 1
            status, text = run_command(tokens)
            if status not in statuses or "Traceback" in text:
                failures.append(f"{kind}, {name!r}: status {status}, {text[-300:]}")
            if found := control_characters(text):
                failures.append(f"{kind}, {name!r}: {found!r} reached the terminal")
        for kind, text in (("exception", command_exception(name)), ("exception in the server", server_exception(name))):
            tried += 1
            if control_characters(text) or "Traceback" not in text:
                failures.append(f"{kind}, {name!r}: {control_characters(text)!r} reached the terminal: {text[-200:]}")
    return Outcome(tried, tuple(failures), {"names": len(names)})


def command_exception(name: str) -> str:
    """The output of a command that raises an exception whose text is `name`."""
    with mock.patch.object(commands, "recipes", mock.Mock(side_effect=ValueError(name))):
        status, text = run_command(["recipes"])
    return text if status == 1 else f"status {status}"


def server_exception(name: str) -> str:
    """The log of `sightline serve` when a route raises an exception whose text is `name`."""
    from fastapi import FastAPI

    from sightline.serve.app import add_errors

    app, terminal_output = FastAPI(), Terminal()
    add_errors(app)
    handler: Any = app.exception_handlers[Exception]
    try:
        raise ValueError(name)
    except ValueError as error:
        stream = io.TextIOWrapper(terminal_output, encoding="utf-8", errors="backslashreplace", write_through=True)
        with contextlib.redirect_stderr(stream):
            asyncio.run(handler(SimpleNamespace(url=SimpleNamespace(path=f"/{name}")), error))
    return terminal_output.getvalue().decode("utf-8")


@contextlib.contextmanager
def unescaped_output() -> Generator[None]:
    """Text is printed without escaping."""
    with mock.patch.object(terminal, "printable", str):
        yield


@contextlib.contextmanager
def unescaped_errors() -> Generator[None]:
    """Error messages contain names without escaping."""
    with mock.patch.object(errors, "printable", str), mock.patch.object(command, "printable", str):
        yield


# ------------------------------------------------------------------------------------------------- CSV and JSON


def tables_of(folder: Path, name: str) -> dict[str, Callable[[], list[list[str]]]]:
    """By kind, a function that writes a table of images and classes with `name` in their names, and returns the rows
    (filename, label) that are read back."""
    names, classes = tuple(f"{name}{index}{name}" for index in range(3)), (f"a{name}", f"{name}b")
    labels, shares = np.array([0, 1, 1]), np.array([[0.75, 0.25], [0.25, 0.75], [0.25, 0.75]])
    decoded = cast(Any, SimpleNamespace(names=names, classes=classes, labels=labels))
    rows = [[names[row], classes[label]] for row, label in enumerate(labels)]

    def validation() -> list[list[str]]:
        from sightline.report.run import read_predictions

        found = read_predictions(results.write_predictions(folder / "val.csv", decoded, shares))
        return [[row, found.classes[index]] for row, index in zip(found.names, found.predicted, strict=True)]

    def predicted() -> list[list[str]]:
        table = resumable_csv.ResumableTable(folder / "guesses.csv", ["filename", "label", "confidence"])
        table.begin({}, True)
        table.add([[*row, "1"] for row in rows])
        return rows_of(table.finish())

    def splits() -> list[list[str]]:
        parts = cast(Any, SimpleNamespace(train=decoded, val=decoded, source=SimpleNamespace(splits={})))
        setup.write_splits(folder / "splits.csv", parts)
        return rows_of(folder / "splits.csv")[:3]

    return {"predictions/val.csv": validation, "table of predict": predicted, "splits.csv": splits}


def rows_of(path: Path) -> list[list[str]]:
    """The first two columns of a CSV file, without the header."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [row[:2] for row in list(csv.reader(file, strict=True))[1:]]


def responses_with(name: str) -> dict[str, bytes]:
    """By kind, response bodies of `sightline serve` that contain `name`."""
    from sightline.inference.predictor import Decision
    from sightline.serve.guard import error_response
    from sightline.serve.models import ExampleImages, ServedClassifier, ServedSegmenter
    from sightline.serve.neighbors import NeighborIndex
    from sightline.serve.schemas import ErrorDetail, PredictResponse, ServerInfo

    classes = (f"a{name}", f"{name}b")
    train = cast(Any, SimpleNamespace(names=(name,), labels=np.array([1]), classes=classes))
    neighbors = NeighborIndex(train, np.array([0]), "", np.ones((1, 1), np.float32), 1)
    parts = cast(Any, SimpleNamespace(palette=page_fixtures.palette_of(name)))
    examples = ExampleImages((np.zeros((3, 8, 8), np.uint8),), (name,), (classes[0],))
    common: Any = {"name": "a model", "config": Config(), "classes": classes, "examples": examples}
    predictor = cast(Any, mock.Mock(decision=Decision()))
    model = ServedClassifier(**common, predictor=predictor, neighbors=neighbors)
    labels = model.response(np.array([0.75, 0.25]), np.ones(1, np.float32))
    common["classes"] = parts.palette.classes
    mask = ServedSegmenter(**common, parts=parts).response(np.zeros((4, 4), np.uint8))
    response = PredictResponse(width=1, height=1, seconds=1.0, answers=[labels, mask])
    info = ServerInfo(models=[model.info()], segment_anything="", most_bytes=1)
    return {
        "predictions": response.model_dump_json().encode(),
        "models": info.model_dump_json().encode(),
        "error": bytes(error_response(400, ErrorDetail(what="w", why=errors.printable(name))).body),
    }


def check_tables(settings: Settings) -> Outcome:
    """Write and read each name in every table, and check that every response is JSON without control characters."""
    names = (ALL, ",".join(CSV_NAMES[:6])) if settings.short else (*PAYLOADS, COMBINED, *CONTROL_NAMES, *CSV_NAMES, ALL)
    tried, failures = 0, []
    for name in names:
        expected = [[f"{name}{index}{name}", (f"a{name}", f"{name}b")[min(index, 1)]] for index in range(3)]
        for kind, write in tables_of(settings.folder, name).items():
            tried += 1
            try:
                found = write()
            except Exception as error:
                failures.append(f"{kind}, {name!r}: {type(error).__name__}: {error}")
                continue
            escaped = [[text.encode("utf-8", "backslashreplace").decode() for text in row] for row in expected]
            if found != (escaped if "\ud800" in name else expected):
                failures.append(f"{kind}, {name!r}: was read back as {found}")
        try:
            bodies = responses_with(name)
        except Exception as error:
            bodies = {f"responses ({type(error).__name__}: {error})": b"{"}
        for kind, body in bodies.items():
            tried += 1
            failures += [f"{kind}, {name!r}: {fault}" for fault in [invalid_response(body)] if fault]
    return Outcome(tried, tuple(failures), {"names": len(names)})


def invalid_response(body: bytes) -> str:
    """Why a body is not JSON without control characters, "" if it is."""
    try:
        texts = list(texts_in(json.loads(body)))
    except ValueError as error:
        return str(error)
    found = control_characters("".join(texts))
    return f"contains {found!r}" if found else ""


def texts_in(value: Any) -> Generator[str]:
    """All texts of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts_in(inner)


@contextlib.contextmanager
def plain_tables() -> Generator[None]:
    """Tables written by csv.writer of Python 3.11."""

    def text_of(rows: Any) -> bytes:
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows(rows)
        return file.getvalue().encode("utf-8", "surrogateescape")

    with contextlib.ExitStack() as stack:
        for module in (csv_io, results, setup, resumable_csv):
            stack.enter_context(mock.patch.object(module, "csv_text", text_of))
        yield


@contextlib.contextmanager
def unescaped_responses() -> Generator[None]:
    """Responses that contain names without escaping."""
    from sightline.serve import models

    with mock.patch.object(models, "printable", str):
        yield


ROWS = (
    Row(
        "control characters in messages",
        SECTION,
        "control characters, terminal escape sequences and text direction marks in names are escaped in all output: "
        "messages, errors and tracebacks",
        check_terminal,
        {"output is not escaped": unescaped_output, "errors are not escaped": unescaped_errors},
        quick=False,
    ),
    Row(
        "names in CSV and JSON",
        SECTION,
        "any name is read back unchanged from CSV files; responses of `sightline serve` are JSON without control "
        "characters",
        check_tables,
        {"tables written by csv.writer": plain_tables, "responses are not escaped": unescaped_responses},
    ),
)
