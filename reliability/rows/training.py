"""Training that goes wrong: numbers that are not finite, too little memory, two runs, changed settings, odd clocks."""

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

from reliability import breakage, namespaces, toys
from reliability.breakage import nothing, replaced
from reliability.contract import Outcome, Row, Settings
from reliability.rows.disk import in_namespace

Case = Callable[["toys.Toy", Path, dict[str, str]], str]


def in_step(number: int, change: Callable[[Any], Any]) -> Callable[[], None]:
    """In the child: `change` gets the task's dict of step `number`, from 1, and may raise."""

    def inside() -> None:
        train = importlib.import_module("sightline.train")
        assemble = train.assemble

        def assembled(*arguments: Any) -> Any:
            training = assemble(*arguments)
            real = training.parts.learner.step

            def step(batch: Any) -> Any:
                result = real(batch)
                return change(result) if training.progress.step + 1 == number else result

            return dataclasses.replace(training, forward=step)

        train.assemble = assembled

    return inside


def state_of(run: Path) -> dict[str, bytes]:
    """Every file of the checkpoints."""
    return {str(path): path.read_bytes() for path in sorted((run / "checkpoints").rglob("*")) if path.is_file()}


def not_finite(toy: toys.Toy, work: Path, whole: dict[str, str], number: int, gradient: bool) -> str:
    """A loss or gradient of NaN: it stops before the step, names the batch's files, and what was saved goes on."""

    def spoil(result: Any) -> Any:
        factor = result["loss"].new_tensor(float("nan"))
        if gradient:  # the loss is the number that it was, its gradient is none
            result["loss"].register_hook(lambda g: g * factor)
            return result
        return result | {"loss": result["loss"] * factor}

    ended = toys.run_child(toy.train(work), work, in_step(number, spoil))
    listed = work / "run" / "not-finite-batch.txt"
    wanted = f"not finite at step {number}"
    if ended.status != 2 or ended.traceback or wanted not in ended.text or "cure:" not in ended.text:
        return f"status {ended.status}: {ended.text[-300:]}"
    if ended.saved != number - 1 or not listed.is_file() or not listed.read_text().strip():
        return f"saved up to step {ended.saved}; the files of the batch: {listed.is_file()}"
    return toys.judged(toy, work, ended.saved, whole)


def poisoned(toy: toys.Toy, work: Path, whole: dict[str, str], number: int) -> str:
    """NaN in the weights after a step whose loss and gradient were finite: never saved."""

    def inside() -> None:
        from sightline.engine import training_state

        save = training_state.save_state

        def spoiled(training: Any) -> None:
            if training.progress.step == number:
                weight = next(iter(training.parts.model.parameters())).data
                weight[(0,) * weight.ndim] = float("nan")
            save(training)

        training_state.save_state = spoiled

    ended = toys.run_child(toy.train(work), work, inside)
    if ended.status not in (2, 3) or ended.traceback or "NaN" not in ended.text:
        return f"status {ended.status}: {ended.text[-300:]}"
    return toys.judged(toy, work, ended.saved, whole)


def no_memory(toy: toys.Toy, work: Path, whole: dict[str, str], number: int, gpu: bool) -> str:
    """A step that finds no memory says what to lower; the run goes on once there is some."""

    def shortage(result: Any) -> Any:
        raise memory_error(gpu)

    ended = toys.run_child(toy.train(work), work, in_step(number, shortage))
    wanted = ("memory is too small", "--train.batch_size", "--train.on_out_of_memory halve")
    if ended.status != 3 or ended.traceback or not all(text in ended.text for text in wanted):
        return f"status {ended.status}: {ended.text[-300:]}"
    return toys.judged(toy, work, ended.saved, whole)


def memory_error(gpu: bool) -> Exception:
    import torch

    text = (
        "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 GB"
    )
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GB") if gpu else RuntimeError(text)


def halved(toy: toys.Toy, work: Path, whole: dict[str, str], number: int, gpu: bool) -> str:
    """Where it may, the run takes smaller parts from there on, says so everywhere, and a resumption keeps to it."""
    first = work / "first"
    limit = partial(fits_three, gpu=gpu)
    allowed = ["--train.on_out_of_memory", "halve", "--train.batch_size", "6"]
    ended = toys.run_child([*toy.train(first), *allowed], first, limit)
    run = first / "run"
    if ended.status or ended.traceback:
        return f"status {ended.status}: {ended.text[-300:]}"
    said = ("out of memory at step 1" in ended.text, '"out_of_memory"' in (run / "metrics.jsonl").read_text())
    if not all(said) or "out of memory at step 1" not in (run / "provenance.json").read_text():
        return "it does not say so in the log, in metrics.jsonl and in provenance.json"
    second = work / "second"
    child = toys.Child([*toy.train(second), *allowed], second, partial(stops_after, number, limit))
    cut = child.end()
    if cut.status != -signal.SIGKILL:
        return f"the second run was not killed: status {cut.status}: {cut.text[-200:]}"
    ended = toys.run_child(toy.resume(second), second, limit)
    if ended.status or "out of memory" in ended.text:
        return f"the resumption does not keep to smaller parts: status {ended.status}: {ended.text[-300:]}"
    return toys.differing(toys.fingerprint(run), toys.fingerprint(second / "run"))


def fits_three(gpu: bool) -> None:
    """In the child: no more than three images at a time fit into memory."""
    train = importlib.import_module("sightline.train")
    assemble = train.assemble

    def assembled(*arguments: Any) -> Any:
        training = assemble(*arguments)
        real = training.parts.learner.step

        def step(batch: Any) -> Any:
            if len(batch.samples) > 3:
                raise memory_error(gpu)
            return real(batch)

        return dataclasses.replace(training, forward=step)

    train.assemble = assembled


def stops_after(number: int, inside: Callable[[], object]) -> None:
    """In the child: `inside`, and SIGKILL once that step is saved."""
    from sightline.engine import training_state

    inside()
    save = training_state.save_state

    def saved(training: Any) -> None:
        save(training)
        if training.progress.step == number:
            os.kill(os.getpid(), signal.SIGKILL)

    training_state.save_state = saved


def two_runs(toy: toys.Toy, work: Path, whole: dict[str, str]) -> str:
    """A second run is refused and told of the first; once that is dead its lock holds nobody."""
    first = toys.Child(toy.train(work), work, partial(waits_after, 1, work / "go"))
    while not (first.wait(0.05) or b"S 1\n" in first.told_so_far):
        pass
    faults = []
    for tokens in (toy.resume(work), toy.train(work, "--overwrite")):
        second = toys.run_child(tokens, work)
        if second.status != 2 or f"process {first.id} on" not in second.text or second.traceback:
            faults.append(f"{tokens[0]} was not refused: status {second.status}: {second.text[-300:]}")
    first.kill(signal.SIGKILL)
    ended = first.end()
    return "; ".join(faults) or toys.judged(toy, work, ended.saved, whole)


def waits_after(number: int, sign: Path) -> None:
    """In the child: wait after that step until there is a file `sign`."""
    from sightline.engine import training_state

    save = training_state.save_state

    def saved(training: Any) -> None:
        save(training)
        while training.progress.step == number and not sign.exists():
            time.sleep(0.01)

    training_state.save_state = saved


def changed(toy: toys.Toy, work: Path, whole: dict[str, str], number: int) -> str:
    """A resumption with another learning rate, in the command or in recipe.yaml, or with other data, is refused."""
    cut = toys.run_child(toy.train(work), work, partial(stops_after, number, lambda: None))
    recipe = work / "run" / "recipe.yaml"
    text = recipe.read_text()
    refusals = [(toy.resume(work, "--optim.lr", "0.5"), "optim.lr: ")]
    refusals += [(toy.resume(work, "--train.batch_size", "3"), "train.batch_size: ")]
    for tokens, said in refusals:
        ended = toys.run_child(tokens, work)
        if ended.status != 2 or said not in ended.text or ended.traceback:
            return f"not refused: {tokens[2:]}: {ended.text[-300:]}"
    recipe.write_text(text.replace("seed: 0", "seed: 1"))
    ended = toys.run_child(toy.resume(work), work)
    if ended.status != 2 or "train.seed: 0 -> 1" not in ended.text:
        return f"an edited recipe is not refused: {ended.text[-300:]}"
    recipe.write_text(text)
    picture, other = [path for path in sorted(toy.data.rglob("*.png")) if "mask" not in path.name][:2]
    before = picture.read_bytes()
    shutil.copy(other, picture)
    ended = toys.run_child(toy.resume(work), work)
    picture.write_bytes(before)
    if ended.status != 2 or "not what this run began with" not in ended.text:
        return f"other data is not refused: status {ended.status}: {ended.text[-300:]}"
    return toys.judged(toy, work, cut.saved, whole)


def clock(toy: toys.Toy, work: Path, whole: dict[str, str], number: int, jump: float) -> str:
    """The clock jumps by so many seconds, and every file has a time in disorder: order is by step, time left is none
    or more."""

    def inside() -> None:
        real = time.time
        time.time = lambda: real() + jump
        stops_after(number, lambda: None)

    cut = toys.run_child(toy.train(work), work, inside)
    dice = random.Random(number)
    for path in (work / "run").rglob("*"):
        when = time.time() + jump * dice.uniform(-2, 2)
        os.utime(path, (when, when))
    fault = toys.judged(toy, work, cut.saved, whole)
    seconds = [line.split('"seconds": ')[1].split(",")[0] for line in (work / "run/metrics.jsonl").open()]
    spent = [float(text.rstrip("}\n")) for text in seconds]
    return fault or ("" if spent == sorted(spent) and min(spent) >= 0 else f"time runs backwards in the log: {spent}")


def tiny_shared_memory(toy: toys.Toy, work: Path, whole: dict[str, str]) -> str:
    """A /dev/shm of 4 kB that is full: no data process, nothing shared, the same run."""
    namespaces.small_disk(Path("/dev/shm"), "4k")
    (Path("/dev/shm") / "full").write_bytes(b"x" * 4096)

    def inside() -> None:
        def no_process() -> int:
            raise AssertionError("a data process is started")

        os.fork = no_process

    ended = toys.run_child(toy.train(work), work, inside)
    return ended.text[-300:] if ended.status else toys.differing(whole, toys.fingerprint(work / "run"))


def check(settings: Settings) -> Outcome:
    """Every case for each task."""
    toys.prepare()
    failures: list[str] = []
    notes: dict[str, int | float | str] = {}
    with toys.workplace(settings.folder) as place:
        for toy, whole, steps in toys.each_task(settings.short, place):
            task = toy.task
            chosen = [2] if settings.short else range(1, steps + 1)
            cases: list[tuple[str, Callable[..., str]]] = []
            for n in chosen:
                cases += [("NaN in the loss", partial(not_finite, number=n, gradient=False))]
                cases += [("NaN in the gradient", partial(not_finite, number=n, gradient=True))]
                cases += [("NaN in the weights", partial(poisoned, number=n))]
                cases += [("out of memory, stop", partial(no_memory, number=n, gpu=n % 2 == 0))]
            cases += [
                ("out of memory, halve", partial(halved, number=2, gpu=gpu)) for gpu in (True, False)[: len(chosen)]
            ]
            cases += [("two runs in a folder", two_runs), ("changed settings and data", partial(changed, number=2))]
            cases += [("a clock that jumps", partial(clock, number=3, jump=jump)) for jump in (-86400.0, 86400.0)]
            for name, case in cases:
                shutil.rmtree(place / "work", ignore_errors=True)
                fault = case(toy, place / "work", whole)
                notes[name] = int(notes.get(name, 0)) + 1
                failures += [f"{task}, {name}: {fault}"] if fault else []
            elsewhere = settings.folder / task  # for /dev/shm, where `place` is, is hidden by the small one
            elsewhere.mkdir()
            case = partial(tiny_shared_memory, toys.make_toy(elsewhere, task), elsewhere / "work", whole)
            fault = in_namespace(case, elsewhere / "result.json")
            notes["a full /dev/shm"] = int(notes.get("a full /dev/shm", 0)) + 1
            failures += [f"{task}, a full /dev/shm: {fault}"] if fault else []
    return Outcome(sum(int(count) for count in notes.values()), tuple(failures), notes)


def check_every_step(settings: Settings) -> Outcome:
    """Cut at every step of a run of two epochs, once and twice; the end is the same."""
    toys.prepare()
    failures: list[str] = []
    notes: dict[str, int | float | str] = {}
    with toys.workplace(settings.folder) as place:
        for toy, whole, steps in toys.each_task(settings.short, place):
            task = toy.task
            once = [(n,) for n in range(steps + 1)]
            twice = [(n, m) for n in range(steps) for m in range(n + 1, steps + 1)]
            chosen = [*once[1:4:2], twice[1]] if settings.short else [*once, *twice]
            for points in chosen:
                if settings.seen(failures):
                    break
                work = place / "work"
                shutil.rmtree(work, ignore_errors=True)
                saved = -1
                for place_in_row, n in enumerate(points):
                    tokens = toy.resume(work) if place_in_row else toy.train(work)
                    cut = toys.run_child(tokens, work, partial(stops_after, n, lambda: None))
                    saved = max(saved, cut.saved)
                    if cut.status != -signal.SIGKILL:
                        failures.append(f"{task}: was not cut at {n} of {points}: {cut.text[-200:]}")
                if fault := toys.judged(toy, work, saved, whole):
                    failures.append(f"{task}, cut at {points}: {fault}")
            notes[f"{task}: runs"] = len(chosen)
            notes[f"{task}: cuts"] = sum(map(len, chosen))
    return Outcome(sum(int(n) for name, n in notes.items() if "cuts" in name), tuple(failures), notes)


def needs() -> str:
    return toys.ready() or namespaces.needs()


def unguarded(_: Any) -> Any:
    return lambda tensors: None


def not_taken(_: Any) -> Any:
    return lambda lock, path: None


def forgets_parts(load: Any) -> Any:
    def loaded(folder: Path, log: Any) -> Any:
        tensors, values = load(folder, log)
        values["progress"]["parts"] = 1
        return tensors, values

    return loaded


ROWS = (
    Row(
        "training faults",
        "training",
        "NaN in loss, gradient or weights, too little memory (stop, and halve), two runs in a folder, changed settings "
        "or data, a clock that jumps, a full /dev/shm: one message with a cure, checkpoints intact, the same end",
        check,
        {
            "a saver that lets NaN through": replaced("runs.checkpoint", "require_finite", unguarded),
            "a lock that is not taken": replaced("runs.lock", "take", not_taken),
            "a resume that takes changed settings": replaced("runs.run_folder", "check_changes", nothing),
            "a resume that takes changed data": replaced("engine.setup", "check_data", nothing),
            "a resume that forgets the smaller parts": replaced("engine.training_state", "load_state", forgets_parts),
        },
        needs,
        quick=False,
    ),
    Row(
        "resumed at every step",
        "training",
        "a run cut at each of its steps, and at every two of them, ends with the same weights and predictions",
        check_every_step,
        breakage.some("an order that ignores the seed", "a resume that forgets the optimizer"),
        toys.ready,
    ),
)
