"""metrics.jsonl as docs/reference/run-folder.md describes it: fields by event, and the program that follows it."""

import re
from collections import defaultdict
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import sightline
from config_toys import configured
from conftest import TINY
from docs import reference
from sightline.runs.atomic import read_json_lines
from sightline.runs.log import RunLog

pytestmark = pytest.mark.usefixtures("quick_figures")
PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "run-folder.md").read_text(encoding="utf-8")
RARE = {"bfloat16", "groups", "grouped_by", "effective_images", "part"}
"""Documented fields that the runs of these tests do not have."""


def documented() -> dict[str, set[str]]:
    """Event -> its fields without metrics and intervals, by the page; `all`: the fields of every event."""
    fields = defaultdict(set)
    for events, field in re.findall(r"^\| ((?:all|`\w+`)(?:, `\w+`)*) \| `(\w+)` \| .+ \|$", PAGE, re.MULTILINE):
        for event in re.findall(r"\w+", events):
            fields[event].add(field)
    return fields


def written(runs: list[Path]) -> dict[str, set[str]]:
    """Event -> its fields in the runs, without metrics and intervals, all of which have a meaning in the reference."""
    metrics = set(re.findall(r"^\| `(\w+)` \|", reference.metrics(), re.MULTILINE))
    fields, own = defaultdict(set), documented()
    for record in (record for run in runs for record in read_json_lines(run / "metrics.jsonl")):
        scored = record["event"] in ("eval", "done", "test")
        own_fields = own["all"] | own[record["event"]]
        measured = {key for key in record if scored and key not in own_fields}
        assert {key.removesuffix("_interval") for key in measured} <= metrics, record["event"]
        fields[record["event"]] |= record.keys() - measured - own["all"]
        assert own["all"] <= record.keys()
    return fields


def test_the_documented_fields_are_those_of_real_runs(
    make_photos: Callable[..., Path], make_scenes: Callable[..., Path], tmp_path: Path, toy: Callable, small: Callable
) -> None:
    photos, short = make_photos(tmp_path / "photos", test=2), {"train.epochs": 2, "report.samples": 0}
    config = configured(TINY | {"name": "t", "task": "classify"})
    one = sightline.train(config, photos, out=tmp_path / "one", quiet=True, **short)
    sightline.evaluate(one, split="test")
    sightline.resume(one, quiet=True, **{"train.epochs": 3})
    masks = sightline.train(toy(), make_scenes(tmp_path / "scenes"), out=tmp_path / "masks", quiet=True, **short)
    views = sightline.train(small(), photos, out=tmp_path / "views", quiet=True, **short)
    found, named = written([one.path, masks.path, views.path]), documented()
    del named["all"]
    events = set(re.findall(r"^\| `(\w+)` \| [^`]", PAGE.partition("| event | written |")[2], re.MULTILINE))
    assert found.keys() == events - {"out_of_memory"}
    assert {name: fields for name, fields in found.items() if fields} == {
        name: fields - RARE for name, fields in named.items() if fields - RARE
    }


def follow(path: Path) -> Generator[dict[str, Any] | None]:
    """Events of the page's program; None whenever it would wait."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    code = code.partition("\n\n\nfor event")[0].replace("time.sleep(1)", "yield None")
    names: dict[str, Any] = {}
    exec(code, names)
    yield from names["follow"](path)


def test_the_program_of_the_page_follows_a_run_that_is_resumed(tmp_path: Path) -> None:
    log = RunLog(tmp_path, quiet=True)
    log.event("start", step=0, epoch=0)
    events = follow(log.path)
    assert next(events)["event"] == "start" and next(events) is None
    for step in (1, 2, 3):
        log.event("train", step=step, epoch=1)
    with open(log.path, "ab") as file:
        file.write(b'{"event": "tr')
    assert [next(events)["step"] for _ in range(3)] == [1, 2, 3] and next(events) is None
    log.event("eval", step=3, epoch=1)  # ends the incomplete line
    assert next(events)["event"] == "eval" and next(events) is None
    log.rewind(2, 1.0)
    log.event("done", step=4, epoch=2)
    steps = [event["step"] for event in iter(lambda: next(events), None)]
    assert steps == [0, 1, 2, 4]
