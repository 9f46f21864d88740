"""Faults in training: non-finite numbers, out of memory, two runs in a folder, changed settings, clock jumps."""

import dataclasses
import importlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from reliability import defects, namespaces, toys
from reliability.contract import Outcome, Row, Settings
from reliability.defects import do_nothing, replace_attribute
from reliability.rows.disk import after_step, in_namespace, unavailable


def replace_step(make_step: Callable[[Any, Callable[[Any], Any]], Callable[[Any], Any]]) -> None:
    """Replace the training step in the child by `make_step(training, the original step)`."""
    train = importlib.import_module("sightline.train")
    assemble = train.assemble

    def assemble_with_step(*arguments: Any) -> Any:
        training = assemble(*arguments)
        return dataclasses.replace(training, forward=make_step(training, training.parts.learner.step))

    train.assemble = assemble_with_step


def change_step(number: int, change: Callable[[Any], Any]) -> Callable[[], None]:
    """A setup function for the child: `change` maps the output dict of step `number`, from 1, or raises."""

    def make_step(training: Any, real: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def step(batch: Any) -> Any:
            result = real(batch)
            return change(result) if training.progress.step + 1 == number else result

        return step

    return partial(replace_step, make_step)


def not_finite(toy: toys.Toy, work: Path, expected: dict[str, str], number: int, gradient: bool) -> str:
    """The loss or gradient of step `number` is NaN: the run ends before the optimizer step, lists the files of the
    batch, and resumes from the last saved state."""

    def spoil(result: Any) -> Any:
        factor = result["loss"].new_tensor(float("nan"))
        if gradient:  # the loss stays finite, its gradient is NaN
            result["loss"].register_hook(lambda g: g * factor)
            return result
        return result | {"loss": result["loss"] * factor}

    ended = toys.run_child(toy.train(work), work, change_step(number, spoil))
    listed = work / "run" / "not-finite-batch.txt"
    wanted = f"not finite at step {number}"
    if ended.status != 2 or ended.traceback or wanted not in ended.text or "cure:" not in ended.text:
        return f"status {ended.status}: {ended.text[-300:]}"
    if ended.last_saved != number - 1 or not listed.is_file() or not listed.read_text().strip():
        return f"saved up to step {ended.last_saved}; the files of the batch: {listed.is_file()}"
    return toys.compare_resumed(toy, work, ended.last_saved, expected)


def nan_in_weights(toy: toys.Toy, work: Path, expected: dict[str, str], number: int) -> str:
    """The weights have a NaN after step `number`, whose loss and gradient were finite: they are never saved."""

    def setup() -> None:
        from sightline.engine import training_state

        save = training_state.save_state

        def save_with_nan(training: Any) -> None:
            if training.progress.step == number:
                weight = next(iter(training.parts.model.parameters())).data
                weight[(0,) * weight.ndim] = float("nan")
            save(training)

        training_state.save_state = save_with_nan

    ended = toys.run_child(toy.train(work), work, setup)
    if ended.status not in (2, 3) or ended.traceback or "NaN" not in ended.text:
        return f"status {ended.status}: {ended.text[-300:]}"
    return toys.compare_resumed(toy, work, ended.last_saved, expected)


def no_memory(toy: toys.Toy, work: Path, expected: dict[str, str], number: int, gpu: bool) -> str:
    """Step `number` runs out of memory: the message names the settings to lower, and the run can be resumed."""

    def out_of_memory(result: Any) -> Any:
        raise memory_error(gpu)

    ended = toys.run_child(toy.train(work), work, change_step(number, out_of_memory))
    wanted = ("out of memory", "--train.batch_size", "--train.on_out_of_memory halve")
    if ended.status != 3 or ended.traceback or not all(text in ended.text for text in wanted):
        return f"status {ended.status}: {ended.text[-300:]}"
    return toys.compare_resumed(toy, work, ended.last_saved, expected)


def memory_error(gpu: bool) -> Exception:
    """The error of a failed allocation, on a GPU or a processor."""
    import torch

    text = (
        "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 GB"
    )
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GB") if gpu else RuntimeError(text)


def halved(toy: toys.Toy, work: Path, expected: dict[str, str], number: int, gpu: bool) -> str:
    """With `train.on_out_of_memory halve` a run divides its batches, records that, and keeps it after a resume."""
    first = work / "first"
    limit = partial(limit_to_three_images, gpu=gpu)
    allowed = ["--train.on_out_of_memory", "halve", "--train.batch_size", "6"]
    ended = toys.run_child([*toy.train(first), *allowed], first, limit)
    run = first / "run"
    if ended.status or ended.traceback:
        return f"status {ended.status}: {ended.text[-300:]}"
    recorded = ("out of memory at step 1" in ended.text, '"out_of_memory"' in (run / "metrics.jsonl").read_text())
    if not all(recorded) or "out of memory at step 1" not in (run / "provenance.json").read_text():
        return "it is not recorded in the log, metrics.jsonl and provenance.json"
    second = work / "second"
    child = toys.Child([*toy.train(second), *allowed], second, partial(kill_after, number, limit))
    cut = child.end()
    if cut.status != -signal.SIGKILL:
        return f"the second run was not killed: status {cut.status}: {cut.text[-200:]}"
    ended = toys.run_child(toy.resume(second), second, limit)
    if ended.status or "out of memory" in ended.text:
        return f"the resumed run does not keep the smaller parts: status {ended.status}: {ended.text[-300:]}"
    return toys.different_files(toys.fingerprint(run), toys.fingerprint(second / "run"))


def limit_to_three_images(gpu: bool) -> None:
    """In the child: let batches of more than three images run out of memory."""

    def make_step(training: Any, real: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def step(batch: Any) -> Any:
            if len(batch.samples) > 3:
                raise memory_error(gpu)
            return real(batch)

        return step

    replace_step(make_step)


def kill_after(number: int, setup: Callable[[], object] = lambda: None) -> None:
    """In the child: call `setup`, and send SIGKILL after the state of step `number` is saved."""
    setup()
    after_step(number, lambda: os.kill(os.getpid(), signal.SIGKILL))()


def two_runs(toy: toys.Toy, work: Path, expected: dict[str, str]) -> str:
    """A second run in the same folder is an error that names the process of the first; a dead process holds no lock."""
    first = toys.Child(toy.train(work), work, partial(block_after, 1))
    while not (first.wait(0.05) or b"S 1\n" in first.received):
        pass
    faults = []
    for tokens in (toy.resume(work), toy.train(work, "--overwrite")):
        second = toys.run_child(tokens, work)
        if second.status != 2 or f"process {first.id} on" not in second.text or second.traceback:
            faults.append(f"{tokens[0]} was not an error: status {second.status}: {second.text[-300:]}")
    first.kill(signal.SIGKILL)
    ended = first.end()
    return "; ".join(faults) or toys.compare_resumed(toy, work, ended.last_saved, expected)


def block_after(number: int) -> None:
    """In the child: block after the state of step `number` is saved, until the process is killed."""
    after_step(number, lambda: time.sleep(600))()


def changed_inputs(toy: toys.Toy, work: Path, expected: dict[str, str], number: int) -> str:
    """Resuming with other settings, on the command line or in recipe.yaml, or with other data is an error."""
    cut = toys.run_child(toy.train(work), work, partial(kill_after, number))
    recipe = work / "run" / "recipe.yaml"
    text = recipe.read_text()
    errors = [(toy.resume(work, "--optim.lr", "0.5"), "optim.lr: ")]
    errors += [(toy.resume(work, "--train.batch_size", "3"), "train.batch_size: ")]
    for tokens, message in errors:
        ended = toys.run_child(tokens, work)
        if ended.status != 2 or message not in ended.text or ended.traceback:
            return f"not an error: {tokens[2:]}: {ended.text[-300:]}"
    recipe.write_text(text.replace("seed: 0", "seed: 1"))
    ended = toys.run_child(toy.resume(work), work)
    if ended.status != 2 or "train.seed: 0 -> 1" not in ended.text:
        return f"an edited recipe is not an error: {ended.text[-300:]}"
    recipe.write_text(text)
    image, other = [path for path in sorted(toy.data.rglob("*.png")) if "mask" not in path.name][:2]
    before = image.read_bytes()
    shutil.copy(other, image)
    ended = toys.run_child(toy.resume(work), work)
    image.write_bytes(before)
    if ended.status != 2 or "the data has changed" not in ended.text:
        return f"other data is not an error: status {ended.status}: {ended.text[-300:]}"
    return toys.compare_resumed(toy, work, cut.last_saved, expected)


def clock_jump(toy: toys.Toy, work: Path, expected: dict[str, str], number: int, jump: float) -> str:
    """The clock jumps by `jump` seconds and the modification times of all files are random: resuming uses the step, and
    the seconds in the log never decrease."""

    def setup() -> None:
        real = time.time
        time.time = lambda: real() + jump
        kill_after(number)

    cut = toys.run_child(toy.train(work), work, setup)
    rng = random.Random(number)
    for path in (work / "run").rglob("*"):
        when = time.time() + jump * rng.uniform(-2, 2)
        os.utime(path, (when, when))
    fault = toys.compare_resumed(toy, work, cut.last_saved, expected)
    seconds = [line.split('"seconds": ')[1].split(",")[0] for line in (work / "run/metrics.jsonl").open()]
    spent = [float(text.rstrip("}\n")) for text in seconds]
    return fault or ("" if spent == sorted(spent) and min(spent) >= 0 else f"time runs backwards in the log: {spent}")


def tiny_shared_memory(toy: toys.Toy, work: Path, expected: dict[str, str]) -> str:
    """A full /dev/shm of 4 kB: no worker process is started, and the results do not change."""
    namespaces.mount_disk(Path("/dev/shm"), "4k")
    (Path("/dev/shm") / "full").write_bytes(b"x" * 4096)

    def setup() -> None:
        def no_process() -> int:
            raise AssertionError("a worker process is started")

        os.fork = no_process

    ended = toys.run_child(toy.train(work), work, setup)
    return ended.text[-300:] if ended.status else toys.different_files(expected, toys.fingerprint(work / "run"))


def check(settings: Settings) -> Outcome:
    """Run every case for each task."""
    toys.preload()
    failures: list[str] = []
    notes: dict[str, int | float | str] = {}
    with toys.scratch_folder(settings.folder) as folder:
        work = folder / "work"
        for toy, expected, steps in toys.each_task(settings.short, folder):
            task = toy.task
            chosen = [2] if settings.short else range(1, steps + 1)
            cases: list[tuple[str, Callable[..., str]]] = []
            for n in chosen:
                cases += [("NaN in the loss", partial(not_finite, number=n, gradient=False))]
                cases += [("NaN in the gradient", partial(not_finite, number=n, gradient=True))]
                cases += [("NaN in the weights", partial(nan_in_weights, number=n))]
                cases += [("out of memory, stop", partial(no_memory, number=n, gpu=n % 2 == 0))]
            cases += [
                ("out of memory, halve", partial(halved, number=2, gpu=gpu)) for gpu in (True, False)[: len(chosen)]
            ]
            cases += [
                ("two runs in a folder", two_runs),
                ("changed settings and data", partial(changed_inputs, number=2)),
            ]
            cases += [("clock jump", partial(clock_jump, number=3, jump=jump)) for jump in (-86400.0, 86400.0)]
            for name, case in cases:
                shutil.rmtree(work, ignore_errors=True)
                fault = case(toy, work, expected)
                notes[name] = int(notes.get(name, 0)) + 1
                failures += [f"{task}, {name}: {fault}"] if fault else []
            elsewhere = settings.folder / task  # not in /dev/shm, which the small one hides
            elsewhere.mkdir()
            case = partial(tiny_shared_memory, toys.make_toy(elsewhere, task), elsewhere / "work", expected)
            fault = in_namespace(case, elsewhere / "result.json")
            notes["full /dev/shm"] = int(notes.get("full /dev/shm", 0)) + 1
            failures += [f"{task}, full /dev/shm: {fault}"] if fault else []
    return Outcome(sum(int(count) for count in notes.values()), tuple(failures), notes)


def check_every_step(settings: Settings) -> Outcome:
    """Kill a run of two epochs at every step, and at every pair of steps, and compare the results after resuming."""
    toys.preload()
    failures: list[str] = []
    notes: dict[str, int | float | str] = {}
    with toys.scratch_folder(settings.folder) as folder:
        work = folder / "work"
        for toy, expected, steps in toys.each_task(settings.short, folder):
            task = toy.task
            once = [(n,) for n in range(steps + 1)]
            twice = [(n, m) for n in range(steps) for m in range(n + 1, steps + 1)]
            chosen = [*once[1:4:2], twice[1]] if settings.short else [*once, *twice]
            for points in chosen:
                if settings.detected(failures):
                    break
                shutil.rmtree(work, ignore_errors=True)
                saved = -1
                for start, n in enumerate(points):
                    tokens = toy.resume(work) if start else toy.train(work)
                    cut = toys.run_child(tokens, work, partial(kill_after, n))
                    saved = max(saved, cut.last_saved)
                    if cut.status != -signal.SIGKILL:
                        failures.append(f"{task}: not killed at {n} of {points}: {cut.text[-200:]}")
                if fault := toys.compare_resumed(toy, work, saved, expected):
                    failures.append(f"{task}, killed at {points}: {fault}")
            notes[f"{task}: runs"] = len(chosen)
            notes[f"{task}: kills"] = sum(map(len, chosen))
    return Outcome(sum(int(n) for name, n in notes.items() if "kills" in name), tuple(failures), notes)


def accept_all_tensors(_: Any) -> Any:
    """A check of saved tensors that accepts NaN."""
    return lambda tensors: None


def reset_parts(load: Any) -> Any:
    """A resume that divides no batches."""

    def loaded(folder: Path, log: Any) -> Any:
        tensors, values = load(folder, log)
        values["progress"]["parts"] = 1
        return tensors, values

    return loaded


ROWS = (
    Row(
        "training faults",
        "Training",
        "NaN in loss, gradient or weights, out of memory (stop, and halve), two runs in a folder, changed settings or "
        "data, a clock jump, a full /dev/shm: one message with a cure, intact checkpoints, and the results of a run "
        "without faults after resuming",
        check,
        {
            "NaN is saved": replace_attribute("runs.checkpoint", "require_finite", accept_all_tensors),
            "the lock is not acquired": replace_attribute("runs.lock", "acquire", do_nothing),
            "resume accepts changed settings": replace_attribute("runs.run_folder", "check_changes", do_nothing),
            "resume accepts changed data": replace_attribute("engine.setup", "check_data", do_nothing),
            "resume forgets the smaller parts": replace_attribute("engine.training_state", "load_state", reset_parts),
        },
        unavailable,
        quick=False,
    ),
    Row(
        "resume at every step",
        "Training",
        "a run killed at each of its steps, and at every pair of them, ends with the same weights and predictions",
        check_every_step,
        defects.select("sample order ignores the seed", "resume without optimizer state"),
        toys.unavailable,
    ),
)
