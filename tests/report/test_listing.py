"""`sightline runs`: states, order, metrics, widths, and JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

import sightline
from sightline.__main__ import run
from sightline.report.compare.listing import runs_below, table
from sightline.runs.lock import lock_run

DONE = {"event": "done", "step": 9, "seconds": 90.0, "accuracy": 0.5, "accuracy_interval": [0.4, 0.6]}


def write_run(folder: Path, started: str, *records: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("task: classify\n")
    (folder / "provenance.json").write_text(json.dumps({"started": started, "data": {"path": "/images/birds/"}}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    best = {"event": "eval", "split": "val", "step": 3, "seconds": 30.0, "mean_iou": 0.25, "best": True}
    stop = {"event": "stop", "step": 3, "seconds": 30.0, "reason": "SIGINT"}
    every = tmp_path / "runs"
    write_run(every / "grid" / "old", "2026-01-01T10:00:00+0000", DONE)
    write_run(every / "halted", "2026-01-02T10:00:00+0000", best, stop)
    write_run(every / "killed", "2026-01-03T10:00:00+0000", best)
    write_run(every / "new", "2026-01-04T10:00:00+0000")
    write_run(every / "new" / "snapshots" / "inside", "2026-01-05T10:00:00+0000")
    return every


def test_states_metrics_and_order(folder: Path) -> None:
    with lock_run(folder / "new"):
        found = runs_below(folder)
    assert [(one.name, one.state) for one in found] == [
        ("new", "running"),
        ("killed", "interrupted"),
        ("halted", "stopped"),
        ("grid/old", "finished"),
    ]
    assert (found[3].metric, found[3].value, found[3].interval, found[3].minutes) == ("accuracy", 0.5, (0.4, 0.6), 1.5)
    assert (found[2].metric, found[2].value, found[2].interval) == ("mean_iou", 0.25, None)
    assert runs_below(folder / "grid" / "old")[0].name == "old"
    (folder / "killed" / "not-finite-batch.txt").write_text("a.png\n")
    assert {one.name: one.state for one in sightline.runs_below(str(folder))}["killed"] == "failed"


def test_a_narrow_table_leaves_out_columns(folder: Path) -> None:
    found = runs_below(folder)
    wide = table(found).splitlines()
    assert wide[0].split() == ["run", "data", "metric", "minutes", "state", "started"]
    assert wide[4].split()[:3] == ["grid/old", "birds", "accuracy"] and "0.5000 [0.4000, 0.6000]" in wide[4]
    for width in (100, 80, 60, 58):
        lines = table(found, width).splitlines()
        assert max(map(len, lines)) <= width and all("finished" in line for line in lines[4:])
    assert table(found, 52).splitlines()[0].split() == ["run", "metric", "state"]


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", str(folder), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["new", "killed", "halted", "grid/old"]
    assert rows[3]["interval"] == [0.4, 0.6] and rows[3]["data"] == "/images/birds/"
    assert run(["runs", str(folder / "grid")]) == 0
    assert "finished" in capsys.readouterr().out
    (folder.parent / "empty").mkdir()
    assert run(["runs", str(folder.parent / "empty")]) == 0
    assert "no runs below" in capsys.readouterr().err
    assert run(["runs", str(folder / "none")]) == 2
