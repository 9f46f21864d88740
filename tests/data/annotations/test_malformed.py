"""200 damaged files per annotation format: a SightlineError, or exactly what the damaged file still says."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotation_toys import (
    WRITERS,
    coco_values,
    cvat_text,
    labelme_values,
    studio_values,
)
from sightline.config.schema import Data
from sightline.data.annotations.recognize import READERS
from sightline.data.annotations.shapes import FileContent
from sightline.data.sources.open import open_source
from sightline.data.sources.pairs import open_pairs
from sightline.errors import SightlineError

COUNT = 200
YOLO_LINES = "0 0.1 0.1 0.9 0.2 0.5 0.8\n1 0.25 0.5 0.75 0.5 0.5 0.9 0.3 0.8\n"
VALUES: dict[str, Callable[[], Any]] = {
    "coco": lambda: coco_values(rle=True),
    "labelme": lambda: labelme_values("a.png"),
    "label_studio": studio_values,
}
TEXTS: dict[str, Callable[[], str]] = {
    **{kind: lambda make=make: json.dumps(make()) for kind, make in VALUES.items()},
    "cvat": cvat_text,
    "yolo": lambda: YOLO_LINES,
}
WRONG = (None, True, "text", -1, 1e300, [], {}, [[]], [None], "7", 3.5, 10**30)


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Cut off the end, flip one to three bits, or repeat or remove a part."""
    start, end = sorted(random.integers(0, len(content), 2).tolist())
    kind = random.integers(4)
    if kind == 0:
        return content[:end]
    if kind == 1:
        changed = bytearray(content)
        for position in random.integers(0, len(content), random.integers(1, 4)).tolist():
            changed[position] ^= 1 << int(random.integers(8))
        return bytes(changed)
    return content[:start] + content[end:] if kind == 2 else content[:end] + content[start:]


def changed(values: Any, random: np.random.Generator) -> Any:
    """Remove a key, or give it a value of a wrong type, at a random position."""
    values = copy.deepcopy(values)
    part = values
    while True:
        keys: list[Any] = [*part] if isinstance(part, dict) else [*range(len(part))]
        key = keys[random.integers(len(keys))]
        inner = part[key]
        if isinstance(inner, dict | list) and inner and random.random() < 0.8:
            part = inner
        elif random.random() < 0.5:
            del part[key]
            return values
        else:
            part[key] = WRONG[random.integers(len(WRONG))]
            return values


def files_of(kind: str, folder: Path) -> tuple[Path, Path]:
    """(the file to read, the file to damage)."""
    if kind != "yolo":
        return folder / "x.json", folder / "x.json"
    (folder / "images").mkdir(exist_ok=True)
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "images/a.png").write_bytes(b"")
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [cat, dog]\n")
    return folder / "data.yaml", folder / "labels/a.txt"


def read(kind: str, path: Path) -> tuple[FileContent, list[str]]:
    faults: list[str] = []
    content = READERS[kind][1](str(path), path.name, faults)
    assert all((isinstance(fault, str) and path.stem.split(".")[0] in fault) or ".txt" in fault for fault in faults)
    return content, faults


@pytest.mark.parametrize("kind", WRITERS)
def test_damaged_bytes(kind: str, tmp_path: Path) -> None:
    """Readers raise no other exception, and what they return without a fault is valid."""
    path, file = files_of(kind, tmp_path)
    whole, random, unharmed = TEXTS[kind]().encode(), np.random.default_rng(1), 0
    for _ in range(COUNT):
        file.write_bytes(content := damaged(whole, random))
        found, faults = read(kind, path)
        if not faults:
            unharmed += 1
            check(found)
            if kind in VALUES:  # the file is valid JSON for another program too
                json.loads(content)
    assert 0 < unharmed < COUNT * (0.9 if kind == "yolo" else 0.5)


def check(content: FileContent) -> None:
    """Everything that is returned is finite, inside of the image and of a known kind."""
    for image in content.images:
        assert image.size is None or min(image.size) > 0
        for shape in image.shapes:
            assert shape.label in image.objects and all(len(part) > 2 for part in shape.polygons)
            assert all(np.isfinite(part).all() for part in shape.polygons)
            if shape.runs:
                assert shape.runs.counts.sum() == shape.runs.box[2] * shape.runs.box[3] and image.size


def number_lists(values: Any) -> set[tuple[float, ...]]:
    """All lists of numbers, or of pairs of numbers, in JSON values, as flat tuples."""
    if isinstance(values, dict):
        return set().union(*map(number_lists, values.values()))
    if not isinstance(values, list):
        return set()
    inner = [part for each in values for part in (each if isinstance(each, list) else [each])]
    own = {tuple(inner)} if inner and all(type(each) in (int, float) for each in inner) else set()
    return own.union(*map(number_lists, values))


@pytest.mark.parametrize("kind", VALUES)
def test_removed_keys_and_wrong_types(kind: str, tmp_path: Path) -> None:
    """A fault, or polygons that are in the file, and labels that are in the file."""
    path, file = files_of(kind, tmp_path)
    values, random, faulty = VALUES[kind](), np.random.default_rng(2), 0
    if kind == "coco":
        values = coco_values()
    for _ in range(COUNT):
        harmed = changed(values, random)
        file.write_text(json.dumps(harmed))
        found, faults = read(kind, path)
        faulty += bool(faults)
        check(found)
        if faults:
            continue
        known = {tuple(np.round(each, 6)) for each in number_lists(json.loads(file.read_text()))}
        for image in found.images:
            unit = 100 / np.array(image.size) if kind == "label_studio" and image.size else 1.0
            for shape in image.shapes:
                assert {tuple(np.round((part * unit).ravel(), 6)) for part in shape.polygons} <= known
                assert json.dumps(shape.label) in json.dumps(harmed)
    assert COUNT * 0.3 < faulty < COUNT


def test_whole_folders_with_damaged_files_end_in_one_error_or_are_read(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    for kind, write in WRITERS.items():
        (tmp_path / kind).mkdir()
        write(tmp_path / kind)
        names = [path for path in (tmp_path / kind).rglob("*") if path.suffix in (".json", ".xml", ".yaml", ".txt")]
        for _ in range(8):
            file = names[random.integers(len(names))]
            whole = file.read_bytes()
            file.write_bytes(damaged(whole, random))
            for opener in (open_source, open_pairs):
                try:
                    opener(Data.model_validate({"path": str(tmp_path / kind), "layout": kind}), 0)
                except SightlineError as error:
                    assert error.where and error.cure, error
            file.write_bytes(whole)
