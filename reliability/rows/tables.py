"""Damaged tables, recipes, masks and run files: mutants read by the functions that the commands use."""

import contextlib
import csv
import io
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from reliability.contract import Outcome, Row, Settings
from reliability.mutations import encoded, mutant, synthetic_image
from reliability.rows.images import MAX_GROWTH, PIXELS, SECTION, rejected
from reliability.trials import run_trials
from sightline.config import resolve as recipes
from sightline.config.schema import Data
from sightline.data.decode import masks
from sightline.data.decode.palettes import Palette, palette_of
from sightline.data.sources import open as sources
from sightline.data.sources import tables
from sightline.errors import SightlineError
from sightline.recipes import load_recipe
from sightline.runs import checkpoint
from sightline.tasks import files


def _mutants(
    count: int, seeds: dict[str, bytes], seed: int, path: Path, read: Callable[[], Any], named: str = ""
) -> Outcome:
    """Write each mutant to `path` and call `read`: it must succeed, or raise a SightlineError that contains `named`
    (default: the file name)."""

    def trial(number: int) -> tuple[str, str]:
        name, mutation, content = mutant(seeds, seed, number)
        path.write_bytes(content)
        try:
            read()
        except SightlineError as error:
            return rejected(number, named or path.name, error)
        except Exception as error:
            return "unexpected exception", f"trial {number} ({name}, {mutation}): {type(error).__name__}: {error}"
        return "read", ""

    return run_trials(count, trial, MAX_GROWTH)


# --------------------------------------------------------------------------------------------------------- tables


def _table(separator: str = ",", quote: bool = False, head: tuple[str, ...] = ("filename", "label")) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL if quote else csv.QUOTE_MINIMAL)
    writer.writerow(head)
    for number in range(8):
        cells = [f"{number}.png", f"class {number % 2}", "train" if number < 6 else "val", str(number % 2)]
        writer.writerow(cells[: len(head)])
    return text.getvalue()


def table_seeds() -> dict[str, bytes]:
    """Tables in every supported CSV dialect and encoding."""
    return {
        "commas": _table().encode(),
        "semicolons": _table(";").encode(),
        "tabs": _table("\t").encode(),
        "quoted": _table(quote=True).encode(),
        "bom": b"\xef\xbb\xbf" + _table().encode(),
        "splits": _table(head=("filename", "class_name", "split", "label")).encode(),
        "utf-16": _table().encode("utf-16"),
        "long cell": ("filename,label\n0.png," + "x" * 140_000 + "\n").encode(),
        "nul": b"filename,label\n0.png,a\x00b\n1.png,c\n",
    }


def check_tables(settings: Settings) -> Outcome:
    for number in range(8):
        synthetic_image((8, 8), seed=number).save(settings.folder / f"{number}.png")
    path = settings.folder / "labels.csv"

    def read() -> None:
        sources.open_source(Data(path=str(path)), 0)

    return _mutants(settings.count(10_000), table_seeds(), settings.seed, path, read, settings.folder.name)


@contextlib.contextmanager
def lenient_tables() -> Generator[None]:
    """Tables read by csv.DictReader without checks."""

    def read_table(path: str, data: Data) -> tables.LabelTable:
        with open(path, encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        rows = tuple(tables.Row(line, row["filename"], (row["label"],), "") for line, row in enumerate(found, 2))
        return tables.LabelTable(path, rows, ())

    from sightline.data.sources import row_matching

    with mock.patch.object(tables, "read_table", read_table), mock.patch.object(row_matching, "read_table", read_table):
        yield


# -------------------------------------------------------------------------------------------------------- recipes


def recipe_seeds() -> dict[str, bytes]:
    """Complete and short recipes, with every kind of value and encoding."""
    short = "name: mine\ntask: classify\noptim: {lr: 1e-3, name: sgd}\ntrain:\n  epochs: 3\n  seed: 0\n"
    return {
        "classifier": recipes.to_yaml(load_recipe("photos_scratch")).encode(),
        "pre-training": recipes.to_yaml(load_recipe("moco_fast")).encode(),
        "short": short.encode(),
        "bom, crlf": b"\xef\xbb\xbf" + short.replace("\n", "\r\n").encode(),
        "json": json.dumps({"name": "mine", "data": {"classes": ["a", "b"], "colors": {"a": [1, 2, 3]}}}).encode(),
        "utf-16": short.encode("utf-16"),
        "deep": b"a: " + b"[" * 2000,
    }


def check_recipes(settings: Settings) -> Outcome:
    path = settings.folder / "mine.yaml"
    return _mutants(settings.count(4_000), recipe_seeds(), settings.seed, path, lambda: files.load_recipe_file(path))


@contextlib.contextmanager
def safe_load() -> Generator[None]:
    """PyYAML's safe_load, whose exceptions are not converted."""
    import yaml

    with mock.patch.object(files, "parse_yaml", lambda text, where: yaml.safe_load(text)):
        yield


# ---------------------------------------------------------------------------------------------------------- masks


def mask_seeds() -> dict[str, bytes]:
    """Masks of colors and of ids in every format that can hold them."""
    fields = np.arange(40 * 28).reshape(28, 40) // 160 % 2
    ids, colors = Image.fromarray(fields.astype(np.uint8)), Image.fromarray((fields * 255).astype(np.uint8))
    rotated = Image.Exif()
    rotated[0x0112] = 8
    return {
        "ids png": encoded(ids, "PNG"),
        "ids 16 bit": encoded(Image.fromarray(fields.astype(np.uint16)), "PNG"),
        "ids palette": encoded(ids.convert("P"), "PNG"),
        "ids tiff": encoded(ids, "TIFF", compression="tiff_lzw"),
        "ids bmp": encoded(ids, "BMP"),
        "ids webp": encoded(ids, "WEBP", lossless=True),
        "ids 32 bit": encoded(Image.fromarray(fields.astype(np.int32)), "TIFF"),
        "ids 1 bit": encoded(colors.convert("1"), "PNG"),
        "colors png": encoded(colors.convert("RGB"), "PNG"),
        "colors rotated by EXIF": encoded(colors.convert("RGB"), "PNG", exif=rotated),
        "colors gif": encoded(colors, "GIF"),
        "colors jpeg": encoded(colors, "JPEG"),
    }


def check_masks(settings: Settings) -> Outcome:
    path = settings.folder / "mask.png"
    palettes: dict[str, Palette] = {
        "colors": palette_of(Data(palette="binary")), "ids": palette_of(Data(classes=("road", "car")))
    }  # fmt: skip
    outcomes = []
    for number, palette in enumerate(palettes.values()):

        def read(palette: Palette = palette) -> None:
            found = masks.read_mask(str(path), palette, PIXELS)
            wrong = set(np.unique(found).tolist()) - {0, 1, 255}
            assert not wrong, f"the mask has the values {wrong}"

        outcomes.append(_mutants(settings.count(5_000), mask_seeds(), settings.seed + number, path, read))
    together = zip(palettes, outcomes, strict=True)
    notes = {f"{name}, {kind}": value for kind, outcome in together for name, value in outcome.notes.items()}
    failures = tuple(line for outcome in outcomes for line in outcome.failures)
    return Outcome(sum(outcome.trials for outcome in outcomes), failures, notes)


@contextlib.contextmanager
def masks_as_photographs() -> Generator[None]:
    """Masks read like photographs, with thresholded gray values."""

    def read_mask(path: str, palette: Palette, max_pixels: int = 0, facts: object = None) -> np.ndarray:
        with Image.open(path) as image:
            return np.asarray(image.convert("L")) // 128 * 2

    with mock.patch.object(masks, "read_mask", read_mask):
        yield


# ------------------------------------------------------------------------------------------------- files of a run


def check_descriptions(settings: Settings) -> Outcome:
    """Mutate config.json and the weights of a checkpoint without a checksum file."""
    import torch

    description = {"format": 1, "classes": ["a", "b"], "model": {"name": "small_cnn", "args": {}}, "epoch": 1}
    folder = settings.folder / "checkpoint"
    folder.mkdir()
    checkpoint.save_model(folder, {"head.weight": torch.zeros(2, 3)}, description)
    config, weights = (folder / "config.json").read_bytes(), (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors.sha256").unlink()  # as in a copy without it

    def read() -> None:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint.load_model(folder)

    count = settings.count(2_500)
    first = _mutants(count, {"config": config}, settings.seed, folder / "config.json", read)
    (folder / "config.json").write_bytes(config)
    second = _mutants(count, {"weights": weights}, settings.seed, folder / "model.safetensors", read)
    return Outcome(first.trials + second.trials, first.failures + second.failures, first.notes)


@contextlib.contextmanager
def unchecked_json() -> Generator[None]:
    """A reader of config.json that does not check its content."""
    with mock.patch.object(
        checkpoint, "read_description", lambda path, cure: json.loads(path.read_text(encoding="utf-8"))
    ):
        yield


ROWS = (
    Row(
        "mutated tables",
        SECTION,
        "a damaged CSV file is read, or is an error that names it; the process continues",
        check_tables,
        {"csv.DictReader without checks": lenient_tables},
    ),
    Row(
        "mutated recipes",
        SECTION,
        "a damaged YAML recipe is read, or is an error that names it",
        check_recipes,
        {"yaml.safe_load": safe_load},
    ),
    Row(
        "mutated masks",
        SECTION,
        "a damaged mask is an error, or is read as class indices and the ignored index only",
        check_masks,
        {"masks read as photographs": masks_as_photographs},
    ),
    Row(
        "mutated run files",
        SECTION,
        "damaged weights and config.json are read, or are an error that names them, also without a checksum file",
        check_descriptions,
        {"config.json is not checked": unchecked_json},
    ),
)
