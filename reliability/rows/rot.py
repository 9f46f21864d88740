"""Bits that rot: flipped, cut off, zeroed or swapped, in every file that a run or the cache reads again."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from reliability import breakage, toys
from reliability.contract import Outcome, Row, Settings
from reliability.rows.training import stops_after

FLIPS = 130  # of each task
RESUMED = ("state-0.safetensors", "state-1.safetensors", ".sha256", "recipe.yaml", "provenance.json", "metrics.jsonl")


def flip(content: bytes, dice: random.Random) -> bytes:
    """One bit turned over."""
    place = dice.randrange(8 * len(content))
    return b"".join((content[: place // 8], bytes([content[place // 8] ^ 1 << place % 8]), content[place // 8 + 1 :]))


def cut_off(content: bytes, dice: random.Random) -> bytes:
    return content[: dice.randrange(len(content))]


def zeroed(content: bytes, dice: random.Random) -> bytes:
    """A page of zeros, or what there is of one."""
    start = dice.randrange(0, max(1, len(content) - 16))
    length = min(4096, len(content) - start)
    return content[:start] + b"\0" * length + content[start + length :]


DAMAGES: tuple[tuple[str, Callable[[bytes, random.Random], bytes]], ...] = (
    ("flipped bit", flip),
    ("flipped bit", flip),
    ("flipped bit", flip),
    ("cut off", cut_off),
    ("zeroed page", zeroed),
)


def check(settings: Settings) -> Outcome:
    """A run cut off in its second epoch and a finished one; each damage to a copy, then used again."""
    toys.prepare()
    failures: list[str] = []
    notes: dict[str, int | float | str] = {}
    dice = random.Random(settings.seed)
    with toys.workplace(settings.folder) as place:
        for task in toys.TASKS[: 1 if settings.short else 3]:
            toy = toys.make_toy(place, task)
            whole, _, _ = toys.reference(toy, place / "whole")
            begun = place / "begun"
            cut = toys.run_child(toy.train(begun), begun, partial(stops_after, 1, lambda: None))
            assert cut.status == -signal.SIGKILL, cut.text
            number = max(15, round(FLIPS * settings.scale * 5 / 3))
            for n in range(number):
                if settings.seen(failures):
                    break
                name, damage = DAMAGES[n % len(DAMAGES)]
                used = ("resumed", "weights", "cache")[n // len(DAMAGES) % 3] if not settings.short else USES[n % 3]
                source = place / "whole" if used == "weights" else begun
                work = place / "begun-copy"
                shutil.rmtree(work, ignore_errors=True)
                shutil.copytree(source, work, symlinks=True)
                path = dice.choice(files_of(work, used))
                before = path.read_bytes()
                path.write_bytes(after := damage(before, dice))
                if after == before:
                    continue
                notes[f"{used}: {name}"] = int(notes.get(f"{used}: {name}", 0)) + 1
                fault, seen = {"resumed": resumed, "weights": used_weights, "cache": resumed}[used](toy, work, whole)
                if fault and not (path.name == "recipe.yaml" and "changed since the run was saved" in fault):
                    failures.append(f"{task}, {used}, {name} in {path.relative_to(work)}: {fault}")
                notes["seen"] = int(notes.get("seen", 0)) + seen
            if settings.seen(failures):
                break
            fault = swapped_files(toy, place, begun, whole)
            notes["swapped files"] = int(notes.get("swapped files", 0)) + 1
            failures += [f"{task}, swapped files: {fault}"] if fault else []
            fault = wrong_precision(toy, place, begun)
            notes["resumed: a precision that is none"] = int(notes.get("resumed: a precision that is none", 0)) + 1
            failures += [f"{task}, a precision that is none: {fault}"] if fault else []
            shutil.rmtree(place / "whole")
            shutil.rmtree(begun)
    trials = sum(int(n) for name, n in notes.items() if name != "seen")
    return Outcome(trials, tuple(failures), notes | {"harmless": trials - int(notes.get("seen", 0))})


USES = ("resumed", "weights", "cache")


def files_of(work: Path, used: str) -> list[Path]:
    """The files that are read again in this use."""
    if used == "cache":
        found = [path for path in (work / "cache").rglob("*") if path.is_file()]
    elif used == "weights":
        found = [path for path in (work / "run" / "checkpoints" / "best").iterdir() if path.is_file()]
    else:
        last = (work / "run" / "checkpoints" / "last").iterdir()
        found = [path for path in last if path.name.startswith("state-")]
        found += [work / "run" / name for name in ("recipe.yaml", "provenance.json", "metrics.jsonl")]
    return sorted(path for path in found if path.stat().st_size)


def resumed(toy: toys.Toy, work: Path, whole: dict[str, str]) -> tuple[str, bool]:
    """(what is wrong, whether the damage was said): it is refused, or another state is used and that is said, or the
    end is the same."""
    ended = toys.run_child(toy.resume(work), work)
    if ended.traceback or ended.status not in (0, 2, 3):
        return f"status {ended.status}: {ended.text[-400:]}", True
    if ended.status:
        return ("" if "cure:" in ended.text else f"no cure: {ended.text[-300:]}"), True
    marks = ("does not match its checksum", "cannot be verified", "resumed from the other", "decoding", "warning:")
    said = any(mark in ended.text for mark in marks)
    differs = toys.differing(whole, toys.fingerprint(work / "run"))
    if differs and "changed since the run was saved" in ended.text:
        return f"changed since the run was saved: {differs}", True
    return (f"unseen, and not the same: {differs}" if differs else ""), said


def used_weights(toy: toys.Toy, work: Path, whole: dict[str, str]) -> tuple[str, bool]:
    """(what is wrong, whether the damage was said) with the best weights: refused with the other ones named, or read as
    they were."""
    child = os.fork()
    result = work / "result.txt"
    if not child:
        result.write_text(read_weights(work / "run", toy))
        os._exit(0)
    os.waitpid(child, 0)
    text = result.read_text() if result.exists() else "the reader died"
    return ("" if text in ("same", "refused") else text), text == "refused"


def read_weights(run: Path, toy: toys.Toy) -> str:
    """`same`, `refused`, or what is wrong."""
    import torch

    from sightline.errors import SightlineError
    from sightline.runs import checkpoint

    original = run.parent.with_name("whole") / "run"
    wanted, about = checkpoint.load_model(original)
    try:
        tensors, description = checkpoint.load_model(run)
    except SightlineError as error:
        return "refused" if "last" in error.cure else f"the other checkpoint is not offered: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    same = tensors.keys() == wanted.keys() and all(torch.equal(tensors[name], wanted[name]) for name in wanted)
    return "same" if same and description == about else "unseen: the weights or their description are others"


def swapped_files(toy: toys.Toy, place: Path, begun: Path, whole: dict[str, str]) -> str:
    """The two states change places with their checksums left where they were: neither is taken for the other."""
    work = place / "begun-copy"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(begun, work)
    first, second = (work / "run" / "checkpoints" / "last" / f"state-{n}.safetensors" for n in (0, 1))
    first.rename(first.with_suffix(".tmp"))
    second.rename(first)
    first.with_suffix(".tmp").rename(second)
    ended = toys.run_child(toy.resume(work), work)
    if ended.status == 0:
        return toys.differing(whole, toys.fingerprint(work / "run"))
    return "" if "checksum" in ended.text and "cure:" in ended.text and not ended.traceback else ended.text[-300:]


def wrong_precision(toy: toys.Toy, place: Path, begun: Path) -> str:
    """One flipped bit makes fp30 of the precision that a resumed run takes from provenance.json: it is named."""
    work = place / "begun-copy"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(begun, work)
    path = work / "run" / "provenance.json"
    path.write_bytes(path.read_bytes().replace(b'"fp32"', b'"fp30"'))
    ended = toys.run_child(toy.resume(work), work)
    said = ended.status == 2 and "'fp30'" in ended.text and "cure:" in ended.text
    return "" if said and not ended.traceback else ended.text[-300:]


def never_checked(_: Any) -> Any:
    return lambda folder, entry: True


ROWS = (
    Row(
        "bits that rot",
        "kills and power",
        "a flipped bit, a file cut off, a page of zeros, files swapped, in states, weights, their checksums and "
        "descriptions, the cache, recipe.yaml, provenance.json and metrics.jsonl: seen and said with the older state "
        "used, or without effect on weights and predictions",
        check,
        {"a cache that is not checked": breakage.replaced("data.cache", "intact", never_checked)}
        | breakage.some("a checksum that is not checked"),
        toys.ready,
    ),
)
