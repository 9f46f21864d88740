"""The sweep as jobs: submitit's local executor for real, and what SLURM is asked for."""

import os
import pickle
import signal
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import sightline
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.errors import SightlineError
from sightline.runs.atomic import read_json_lines
from sightline.sweep import Sweep, claim_folder
from sightline.sweep.cluster import Worker
from sightline.sweep.plan import checked, make_plan

SPACE = {"optim.lr": "1e-2..1e-1"}


def test_two_trials_as_a_local_job(recipe: Config, tiles: Path, tmp_path: Path, capfd) -> None:
    """In processes of their own from end to end: the controller, the job, its nursery, the trials."""
    result = sightline.sweep(
        recipe, tiles, out=tmp_path / "s", trials=2, cluster="local", **{"cluster.minutes": "5"}, **SPACE
    )
    assert [row["state"] for row in result.trials] == ["complete", "complete"]
    assert (result.path / "trial-0001" / "report.html").is_file() and result.report.is_file()
    assert next(r["event"] for r in read_json_lines(result.path / "trial-0000" / "metrics.jsonl")) == "start"
    said = capfd.readouterr().out
    assert "submitted 1 to local" in said and "2/2  trial 1" in said


@pytest.mark.usefixtures("forked")
def test_a_job_that_is_preempted_saves_its_trial_and_goes_on_in_the_next(
    recipe: Config, tiles: Path, tmp_path: Path
) -> None:
    """As submitit does it: a signal in the midst of the work, `checkpoint`, and the end of the process."""
    long = resolve(recipe, {"train.epochs": 60})
    plan = checked(make_plan(long, {"data.path": str(tiles), **SPACE}, None, "tpe", "none", 0))
    out = tmp_path / "s"
    claim_folder(out, plan, False)
    worker, place = Worker(str(out), 1, "", 0.0, 0, ["sightline"]), out / "trial-0000"
    again: list[Any] = []

    def preempted(number: int, frame: object) -> None:
        again.append(worker.checkpoint())
        raise SystemExit

    def evaluated() -> int:
        return sum(record.get("event") == "eval" for record in read_json_lines(place / "metrics.jsonl"))

    def preempt() -> None:
        while evaluated() < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, preempted)
    try:
        threading.Thread(target=preempt, daemon=True).start()
        with pytest.raises(SystemExit):
            worker()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert 2 <= evaluated() < 60 and again[0].function.folder == str(out)
    assert pickle.loads(pickle.dumps(again[0].function))() == "done"
    assert evaluated() == 60
    assert any(record["event"] == "resume" for record in read_json_lines(place / "metrics.jsonl"))


def fake_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> Path:
    """An sbatch that keeps what it is given and answers so; sacct and squeue know nothing. Returns what was kept."""
    folder.mkdir()
    kept = folder / "kept.sh"
    for name, text in (
        ("sbatch", f'cp "$1" {kept}\n{answer}'),
        ("srun", "exit 0"),
        ("sacct", 'echo "JobID|State"\necho "77_0|FAILED"\necho "77_1|FAILED"'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755 | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return kept


def test_slurm_gets_an_array_with_what_was_asked_for(
    recipe: Config, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = fake_slurm(tmp_path / "bin", monkeypatch, 'echo "Submitted batch job 77"')
    options: dict[str, Any] = {"partition": "gpu", "minutes": "90", "gpus": "1", "cpus": "4", "setup": "module load x"}
    with pytest.raises(SightlineError, match="has died") as caught:  # sacct says that the jobs have failed
        sightline.sweep(
            recipe, tiles, out=tmp_path / "s", trials=4, jobs=2, cluster="slurm", quiet=True,
            **{f"cluster.{name}": value for name, value in options.items()}, **SPACE,
        )  # fmt: skip
    assert caught.value.status == 3 and "the same command" in caught.value.cure
    text = kept.read_text()
    for line in ("--partition=gpu", "--time=90", "--gpus-per-node=1", "--cpus-per-task=4", "--array=0-1%2"):
        assert f"#SBATCH {line}\n" in text, line
    assert "module load x\n" in text and "--signal=" in text
    assert Sweep(tmp_path / "s").trials == []


def test_where_slurm_refuses_it_is_said(
    recipe: Config, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm(tmp_path / "bin", monkeypatch, 'echo "sbatch: error: invalid partition" >&2; exit 1')
    with pytest.raises(SightlineError, match="slurm takes no jobs") as caught:
        sightline.sweep(recipe, tiles, out=tmp_path / "s", cluster="slurm", quiet=True, **SPACE)
    assert "invalid partition" in caught.value.why and caught.value.status == 3
