"""Trials as cluster jobs: with submitit's local executor, and with fake SLURM commands."""

import os
import pickle
import signal
import stat
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import sightline
from sightline.config.resolve import resolve, to_yaml
from sightline.config.schema import Config
from sightline.errors import INTERRUPTED, SightlineError
from sightline.runs.atomic import atomic_write, read_json, read_json_lines
from sightline.sweep.cluster import JobProcess, TrialJob
from sightline.sweep.trial import log_file

SPACE = {"optim.lr": "1e-2..1e-1"}


@pytest.mark.slow
def test_a_trial_as_a_local_job(recipe: Config, tiles: Path, tmp_path: Path, capfd) -> None:
    """End to end without forks: the trial runs in a process that is started by the job's process."""
    options: dict[str, Any] = {"cluster": "local", "cluster.minutes": "5"}
    result = sightline.sweep(recipe, tiles, out=tmp_path / "s", trials=1, **options, **SPACE)
    assert [row["state"] for row in result.trials] == ["complete"]
    assert (result.path / "trial-0000" / "report.html").is_file() and result.report.is_file()
    assert next(r["event"] for r in read_json_lines(result.path / "trial-0000" / "metrics.jsonl")) == "start"
    output = capfd.readouterr().out
    assert "trial 0: submitted to local as job" in output and "1/1  trial 0" in output
    share = result.trials[0]["value"]
    assert f"accuracy {100 * share:.2f}%  optim.lr" in output, "in percent, as in the sentences below"


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_a_preempted_job_saves_its_trial_and_the_next_job_resumes_it(
    recipe: Config, tiles: Path, tmp_path: Path
) -> None:
    """As in submitit: a signal while the job is running, a call of `checkpoint`, and the end of the process."""
    folder = tmp_path / "s" / "trial-0000"
    config = resolve(recipe, {"train.epochs": 150, "data.path": str(tiles)})
    atomic_write(log_file(folder, "yaml"), to_yaml(config))
    job = TrialJob(folder, {}, ["sightline"])
    resubmitted: list[Any] = []

    def on_signal(number: int, frame: object) -> None:
        resubmitted.append(job.checkpoint())
        raise SystemExit

    def evaluated() -> int:
        return sum(record.get("event") == "eval" for record in read_json_lines(folder / "metrics.jsonl"))

    def preempt() -> None:
        while evaluated() < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, on_signal)
    try:
        threading.Thread(target=preempt, daemon=True).start()
        with pytest.raises(SystemExit):
            job()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert 2 <= evaluated() < 150 and read_json(log_file(folder, "json"))["status"] == INTERRUPTED
    assert pickle.loads(pickle.dumps(resubmitted[0].function))() == 0
    assert evaluated() == 150
    assert any(record["event"] == "resume" for record in read_json_lines(folder / "metrics.jsonl"))


def fake_slurm(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, state: str = "FAILED", job: int = 77
) -> Path:
    """Put a fake sbatch, which copies its script and prints `answer`, and a fake sacct on PATH; returns the copy."""
    folder.mkdir()
    script = folder / "script.sh"
    for name, text in (
        ("sbatch", f'cp "$1" {script}\n{answer}'),
        ("srun", "exit 0"),
        ("scancel", "exit 0"),
        ("sacct", f'echo "JobID|State"\necho "{job}|{state}"'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755 | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return script


def test_slurm_jobs_get_the_options_and_their_failure_is_reported(
    recipe: Config, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = fake_slurm(tmp_path / "bin", monkeypatch, 'echo "Submitted batch job 77"')
    options: dict[str, Any] = {"partition": "gpu", "minutes": "90", "gpus": "1", "cpus": "4", "setup": "module load x"}
    with pytest.raises(SightlineError, match="the first 3 trials have all failed") as caught:
        sightline.sweep(
            recipe, tiles, out=tmp_path / "s", trials=4, jobs=2, cluster="slurm", quiet=True,
            **{f"cluster.{name}": value for name, value in options.items()}, **SPACE,
        )  # fmt: skip
    assert "job 77 ended, state FAILED" in caught.value.why
    text = script.read_text()
    for line in ("--partition=gpu", "--time=90", "--gpus-per-node=1", "--cpus-per-task=4"):
        assert f"#SBATCH {line}\n" in text, line
    assert "module load x\n" in text and "--signal=" in text


def test_ctrl_c_leaves_slurm_jobs_running_and_the_same_command_takes_them_over(
    recipe: Config, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = fake_slurm(tmp_path / "bin", monkeypatch, 'echo "Submitted batch job 78"', "RUNNING", 78)
    for submitted in (True, False):
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(SightlineError, match="submitted jobs continue: 78") as caught:
            sightline.sweep(recipe, tiles, out=tmp_path / "s", trials=1, cluster="slurm", quiet=True, **SPACE)
        assert caught.value.status == INTERRUPTED and "scancel 78" in caught.value.cure
        assert script.is_file() == submitted
        script.unlink(missing_ok=True)


@pytest.mark.parametrize(("state", "status"), [("PREEMPTED", INTERRUPTED), ("OUT_OF_MEMORY", 1)])
def test_a_job_that_ends_without_a_result_is_resumed_if_the_cluster_ended_it(
    state: str, status: int, tmp_path: Path
) -> None:
    (tmp_path / "job.err").write_text("loading\nslurmstepd: the reason\n\n")
    job = SimpleNamespace(
        job_id="5", state=state, done=lambda force_check: True, paths=SimpleNamespace(stderr=tmp_path / "job.err")
    )
    assert JobProcess(cast(Any, job), tmp_path / "trial-0000").poll() == 0
    end = read_json(log_file(tmp_path / "trial-0000", "json"))
    assert end["status"] == status and "the reason" in end["message"]


def test_a_rejected_job_is_an_error_with_slurms_message(
    recipe: Config, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm(tmp_path / "bin", monkeypatch, 'echo "sbatch: error: invalid partition" >&2; exit 1')
    with pytest.raises(SightlineError, match="slurm rejected the job") as caught:
        sightline.sweep(recipe, tiles, out=tmp_path / "s", cluster="slurm", quiet=True, **SPACE)
    assert "invalid partition" in caught.value.why and caught.value.status == 3
