"""metrics.jsonl, and the output of a run with and without a terminal."""

import errno
import json
import os
import pty
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import ENVIRONMENT, SightlineError
from sightline.runs import log as log_module
from sightline.runs import terminal
from sightline.runs.log import RunLog
from sightline.runs.terminal import duration, epoch_line, epoch_means, eta_seconds, live_line


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines(folder: Path) -> list[dict]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    content = (folder / "metrics.jsonl").read_text().removesuffix("\n")
    return [json.loads(line, parse_constant=refuse) for line in content.split("\n")]


def train_event(log: RunLog, step: int, **fields: object) -> None:
    values = {"loss": 1.5, "lr": 0.1, "images_per_second": 812.4, "data_wait": 0.011, "grad_norm": 1.0} | fields
    log.event("train", step=step, epoch=step / 10, **values)


# ---------------------------------------------------------------------------------------------------- metrics.jsonl


def test_every_line_has_the_four_fields_and_no_nan(tmp_path: Path) -> None:
    clock = Clock()
    with RunLog(tmp_path, clock=clock) as log:
        clock.now += 2.5
        train_event(log, 1, loss=float("nan"), grad_norm=np.float32("inf"), lr=np.float64(0.1), more=[1.0, -np.inf])
        log.event("done", step=10, epoch=1, accuracy_interval=(np.float32(0.5), 0.75), text="naïve \u2028 \x85")
    first, last = lines(tmp_path)
    assert [first[key] for key in ("event", "step", "epoch", "seconds")] == ["train", 1, 0.1, 2.5]
    assert first["loss"] is None and first["grad_norm"] is None and first["lr"] == 0.1 and first["more"] == [1.0, None]
    assert last["accuracy_interval"] == [0.5, 0.75] and last["text"] == "naïve \u2028 \x85"


def test_seconds_accumulate_over_resumes(tmp_path: Path) -> None:
    clock = Clock()
    first = RunLog(tmp_path, clock=clock)
    clock.now += 100
    train_event(first, 10)
    clock.now += 86_400  # before the run is resumed
    second = RunLog(tmp_path, clock=clock)
    assert second.seconds() == 100
    clock.now += 5
    train_event(second, 11)
    assert [record["seconds"] for record in lines(tmp_path)] == [100, 105]


def test_rewind_removes_later_events(tmp_path: Path) -> None:
    clock = Clock()
    log = RunLog(tmp_path, clock=clock)
    for step in (5, 10, 15, 20):
        clock.now += 10
        train_event(log, step)
        log.event("eval", step=step, epoch=step // 5, split="val", loss=1.0, accuracy=0.5, best=True)
    log.event("stop", step=20, epoch=4, reason="killed")
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"event": "train", "st')  # a partial line
    log = RunLog(tmp_path, clock=clock)
    log.rewind(10, 20.0)
    clock.now += 7
    train_event(log, 15)
    records = lines(tmp_path)
    assert [record["step"] for record in records if record["event"] == "train"] == [5, 10, 15]
    assert [record["step"] for record in records if record["event"] == "eval"] == [5, 10]
    assert [record["event"] for record in records].count("stop") == 1
    assert records[-1]["seconds"] == 27


def test_a_partial_line_does_not_damage_others(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"event": "start", "seconds": 3}\n{"event": "train", "st')
    log = RunLog(tmp_path, clock=Clock())
    log.rewind(0, log.seconds())
    train_event(log, 1)
    content = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(content[0])["event"] == "start" and json.loads(content[-1])["seconds"] == 3


def test_invalid_records_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"seconds": "x"}\n{"event": "train", "step": null}\n[1]\n')
    log = RunLog(tmp_path)
    log.rewind(3, 0.0)
    assert log.seconds() < 5


def test_a_full_disk_loses_metrics_with_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise SightlineError("cannot write metrics.jsonl", why=f"no space; {time.monotonic()} MB", status=ENVIRONMENT)

    monkeypatch.setattr(log_module, "append_line", full)
    log = RunLog(tmp_path)
    train_event(log, 1)
    train_event(log, 2)
    assert len(log.warnings) == 1 and "no space" in log.warnings[0]


# ---------------------------------------------------------------------------------------------------- printed output


def play(log: RunLog, clock: Clock, epochs: int = 2, epoch_steps: int = 30) -> None:
    log.plan(epochs, epoch_steps)
    for step in range(1, epochs * epoch_steps + 1):
        clock.now += 1.0
        log.tick(step)
        if step % 10 == 0:
            train_event(log, step)
        if step % epoch_steps == 0:
            epoch = step // epoch_steps
            log.event("eval", step=step, epoch=epoch, split="val", loss=1.1, accuracy=0.7811, best=epoch == 1)


def test_without_a_terminal_one_line_per_epoch_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with RunLog(tmp_path, clock=clock) as log:
        play(log, clock)
    assert capsys.readouterr().out.splitlines() == [
        "about 1 min for 2 epochs on this machine, without evaluation",
        "epoch    1/2  loss 1.500  val loss 1.100  accuracy 0.7811 (best)  812 images/s  data wait 1 %  30 s left",
        "epoch    2/2  loss 1.500  val loss 1.100  accuracy 0.7811         812 images/s  data wait 1 %",
    ]


def estimate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], epochs: int, begin: int, costs: tuple[float, ...] = ()
) -> tuple[str, str]:
    """(printed estimate, time left) after 20 steps; an epoch has 30 steps of one second times their cost."""
    clock = Clock()
    log = RunLog(tmp_path, clock=clock)
    log.plan(epochs, 30, begin, **({"costs": costs} if costs else {}))
    for step in range(begin + 1, begin + 21):
        clock.now += costs[(step - 1) // 30] if costs else 1.0
        log.tick(step)
    return capsys.readouterr().out.strip(), log.time_left()


@pytest.mark.parametrize(
    ("epochs", "begin", "start", "left"),
    [(62, 40 * 30, "about 11 min for the 22 epochs left on", "11 min left"),
     (12, 5 * 30 + 15, "about 3 min for the 6.5 epochs left on", "3 min left"),
     (2, 30, "about 30 s for the 1 epoch left on", "10 s left"),
     (1, 0, "about 30 s for 1 epoch on", "10 s left")],
)  # fmt: skip
def test_the_estimate_after_a_resume_is_for_the_remaining_epochs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], epochs: int, begin: int, start: str, left: str
) -> None:
    sentence, rest = estimate(tmp_path, capsys, epochs, begin)
    assert sentence.startswith(start) and rest == left


def test_the_estimate_for_short_epochs_is_for_the_remaining_epochs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    log = RunLog(tmp_path, clock=clock)
    log.plan(8, 3, 4)
    for step in range(5, 25):
        clock.now += 1
        log.tick(step)
    assert capsys.readouterr().out == "", "the run ends with the twentieth step"
    log.plan(12, 3, 4)
    for step in range(5, 25):
        clock.now += 1
        log.tick(step)
    assert capsys.readouterr().out.startswith("about 12 s for the 4 epochs left on")


def test_estimates_with_progressive_image_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate(tmp_path, capsys, 3, 0, (1.0, 4.0, 10.0)) == (
        "about 8 min for 3 epochs on this machine, without evaluation",  # 30 + 120 + 300 s
        "7 min left",  # less 20 s
    )
    assert estimate(tmp_path, capsys, 3, 45, (1.0, 4.0, 10.0))[0].startswith("about 6 min for the 1.5 epochs left")
    assert estimate(tmp_path, capsys, 4, 60, (1.0, 4.0, 10.0))[1] == "7 min left"  # later epochs have the last cost


def test_quiet_prints_warnings_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with RunLog(tmp_path, quiet=True, clock=clock) as log:
        play(log, clock)
        log.say("hello")
        log.warn("the disk\x1b[2J is nearly full")
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "warning: the disk\\x1b[2J is nearly full\n"
    assert log.warnings == ["the disk\x1b[2J is nearly full"]


def test_control_characters_in_messages_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunLog(tmp_path).say("class \x1b[31m \udcff [red]x[/red]")
    assert capsys.readouterr().out == "class \\x1b[31m \\udcff [red]x[/red]\n"


SCRIPT = """
    import sys
    from pathlib import Path
    from sightline.runs.log import RunLog
    assert "torch" not in sys.modules, "the log must not import torch"
    with RunLog(Path(sys.argv[1])) as log:
        log.plan(2, 50)
        for step in range(1, 101):
            log.event("train", step=step, epoch=step / 50, loss=1.5, images_per_second=812.0, data_wait=0.01)
            log.tick(step)
            if step % 50 == 0:
                log.tick(step, doing="validating")
                log.event("eval", step=step, epoch=step // 50, loss=1.1, accuracy=0.78, best=True)
        log.warn("beware")
        log.say("the \\u00e4nd")
    Path(sys.argv[1], "finished").write_text("yes")
"""


def environment(**more: str) -> dict[str, str]:
    path = str(Path(log_module.__file__).parents[2])
    return os.environ | {"PYTHONPATH": path, "COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color"} | more


def script(folder: Path) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder)]


def in_terminal(folder: Path, **more: str) -> str:
    """Run the script in a pseudo-terminal; returns its output."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(script(folder), stdout=theirs, stderr=theirs, env=environment(**more)) as process:
        os.close(theirs)
        output = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # the script has ended
                break
            if not block:
                break
            output += block
        os.close(ours)
    assert process.returncode == 0, output
    return output.decode()


def test_the_live_line_is_removed_at_the_end(tmp_path: Path) -> None:
    output = in_terminal(tmp_path)
    assert "━" in output and "\x1b[?25l" in output and output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output)
    assert "epoch    2/2  loss 1.500  val loss 1.100  accuracy 0.7800 (best)" in plain
    assert "warning: beware" in plain and "the änd" in plain
    assert output.count("%") < 15  # the line is not redrawn for each of the 100 steps


@pytest.mark.parametrize("more", [{"TERM": "dumb"}, {"PYTHONIOENCODING": "ascii"}])
def test_simple_terminals_get_plain_lines(tmp_path: Path, more: dict[str, str]) -> None:
    output = in_terminal(tmp_path, **more)
    assert "\x1b" not in output and "━" not in output and "epoch    2/2  loss" in output
    assert ("the \\xe4nd" if "PYTHONIOENCODING" in more else "the änd") in output


def test_a_closed_pipe_does_not_end_the_run(tmp_path: Path) -> None:
    with subprocess.Popen(script(tmp_path), stdout=-1, stderr=-1, env=environment()) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0, errors
    assert errors == b"warning: beware\n" and (tmp_path / "finished").exists()
    assert len(lines(tmp_path)) == 102


def test_stdout_can_be_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    clock = Clock()
    with RunLog(tmp_path, clock=clock) as log:
        play(log, clock)
    assert len(lines(tmp_path)) == 8


def test_errors_of_stdout_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FailingStream:
        encoding = "utf-8"

        def isatty(self) -> bool:
            return False

        def write(self, _: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

        def fileno(self) -> int:
            raise OSError

    monkeypatch.setattr(sys, "stdout", FailingStream())
    log = RunLog(tmp_path)
    log.say("hello")
    assert log.quiet


def test_a_tick_takes_microseconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path)
    log.plan(10, 1000)
    costs = []
    for block in range(5):
        start = time.perf_counter()
        for step in range(1000):
            log.tick(1000 * block + step)
        costs.append((time.perf_counter() - start) / 1000)
    assert min(costs) < 50e-6


# ---------------------------------------------------------------------------------------------------- pure functions


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (47.6, "48 s"), (-5, "0 s"), (59.7, "1 min"), (27 * 60, "27 min"), (3599, "1 h"), (4320, "1 h 12 min"),
     (7200, "2 h"), (86_399, "1 d"), (51 * 3600, "2 d 3 h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@settings(max_examples=200, deadline=None)
@given(st.integers(-5, 10**9), st.integers(-5, 10**9), st.floats(allow_nan=True))
def test_time_left_is_never_negative(done: int, left: int, seconds: float) -> None:
    assert eta_seconds(done, left, seconds) >= 0
    assert eta_seconds(10, 30, 5.0) == 15.0


def test_time_left_with_a_clock_that_is_set_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    log = RunLog(tmp_path, clock=clock)
    log.plan(1, 100)
    for step in range(1, 50):
        clock.now -= 86_400
        log.tick(step)
    assert log.time_left() == "0 s left" and "-" not in capsys.readouterr().out


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(0, 1000),
    st.integers(0, 5000),
    st.integers(24, 200),
    st.dictionaries(st.sampled_from(terminal.EPOCH_LINE), st.text("abc 1.", max_size=30)),
)
def test_lines_fit_the_terminal(step: int, epoch_steps: int, epochs: int, width: int, parts: dict[str, str]) -> None:
    step = min(step, epoch_steps * epochs) if epochs else step
    assert len(live_line(step, epoch_steps, epochs, parts, width)) <= width
    assert len(epoch_line(epochs, epochs, parts, width)) <= width


def test_narrow_lines_keep_parts_by_priority() -> None:
    parts = {"loss": "loss 1.234", "val loss": "val loss 1.100", "metric": "accuracy 0.7811 (best)"}
    parts |= {"speed": "812 images/s", "wait": "data wait 1 %", "left": "2 min left"}
    whole = "epoch  12/50  loss 1.234  val loss 1.100  accuracy 0.7811 (best)  812 images/s  data wait 1 %  2 min left"
    assert epoch_line(12, 50, parts).plain == whole
    assert epoch_line(12, 50, parts, 80).plain == whole[: whole.index("  data wait")]
    assert epoch_line(12, 50, parts, 50).plain == "epoch  12/50  loss 1.234  accuracy 0.7811 (best)"
    assert "0/50" not in live_line(0, 10, 50, parts, 80).plain and " 1/50" in live_line(10, 10, 50, parts, 80).plain
    assert "100 %" in live_line(10, 10, 50, parts, 80).plain and "  0 %" in live_line(0, 10, 50, parts, 80).plain


def test_epoch_means() -> None:
    records = [
        {"steps": 10, "loss": 1.0, "images_per_second": 1000.0, "data_wait": 0.0},
        {"steps": 10, "loss": 2.0, "images_per_second": 500.0, "data_wait": 0.3},
        {"steps": 1, "loss": 9.0, "images_per_second": 100.0, "data_wait": 0.0},
    ]
    means = epoch_means(records)
    assert means["loss"] == pytest.approx((10 + 20 + 9) / 21)
    assert means["images_per_second"] == pytest.approx(21 / (0.01 + 0.02 + 0.01))
    assert means["data_wait"] == pytest.approx(0.3 * 0.02 / 0.04)
    assert epoch_means([]) == {} and epoch_means([{"steps": 1, "loss": None}]) == {}


def test_epoch_lines_show_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(tmp_path) as log:
        log.plan(2, 3)
        for step, loss in ((2, 1.0), (3, 4.0), (5, 3.0), (6, 3.0)):
            log.event("train", step=step, epoch=step / 3, loss=loss, images_per_second=100.0, data_wait=0.0)
            if step % 3 == 0:
                log.event("eval", step=step, epoch=step // 3, loss=0.5, accuracy=0.5)
    lines = capsys.readouterr().out.splitlines()
    assert "loss 2.000" in lines[0] and "loss 3.000" in lines[1]
