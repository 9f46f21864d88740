"""Bit flips, truncation, zeroed pages and swapped files, in every file that a run or the cache reads again."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from reliability import defects, toys
from reliability.contract import Outcome, Row, Settings
from reliability.rows.training import kill_after

TRIALS = 130  # of each task and kind of file
USES = ("resumed", "weights", "cache")


def flip_bit(content: bytes, rng: random.Random) -> bytes:
    """Flip one bit."""
    byte, bit = divmod(rng.randrange(8 * len(content)), 8)
    return b"".join((content[:byte], bytes([content[byte] ^ 1 << bit]), content[byte + 1 :]))


def truncate(content: bytes, rng: random.Random) -> bytes:
    """Remove the end of the file."""
    return content[: rng.randrange(len(content))]


def zero_page(content: bytes, rng: random.Random) -> bytes:
    """Replace up to 4096 bytes by zeros."""
    start = rng.randrange(0, max(1, len(content) - 16))
    length = min(4096, len(content) - start)
    return content[:start] + b"\0" * length + content[start + length :]


DAMAGES: tuple[tuple[str, Callable[[bytes, random.Random], bytes]], ...] = (
    ("flipped bit", flip_bit),
    ("flipped bit", flip_bit),
    ("flipped bit", flip_bit),
    ("truncated", truncate),
    ("zeroed page", zero_page),
)


def check(settings: Settings) -> Outcome:
    """Damage copies of an interrupted and of a finished run, and use them again."""
    toys.preload()
    failures: list[str] = []
    notes: dict[str, int | float | str] = {}
    rng = random.Random(settings.seed)
    with toys.scratch_folder(settings.folder) as folder:
        for toy, expected, _ in toys.each_task(settings.short, folder):
            task, finished = toy.task, folder / f"reference-{toy.task}"
            interrupted = folder / "interrupted"
            cut = toys.run_child(toy.train(interrupted), interrupted, partial(kill_after, 1))
            assert cut.status == -signal.SIGKILL, cut.text
            number = max(15, round(TRIALS * settings.scale * 5 / 3))
            for n in range(number):
                if settings.detected(failures):
                    break
                name, damage = DAMAGES[n % len(DAMAGES)]
                used = USES[(n if settings.short else n // len(DAMAGES)) % 3]
                work = copy_of(finished if used == "weights" else interrupted)
                path = rng.choice(files_of(work, used))
                before = path.read_bytes()
                path.write_bytes(after := damage(before, rng))
                if after == before:
                    continue
                notes[f"{used}: {name}"] = int(notes.get(f"{used}: {name}", 0)) + 1
                fault, seen = load_weights(finished, work) if used == "weights" else resume(toy, work, expected)
                if fault and not (path.name == "recipe.yaml" and "changed since the run was saved" in fault):
                    failures.append(f"{task}, {used}, {name} in {path.relative_to(work)}: {fault}")
                notes["detected"] = int(notes.get("detected", 0)) + seen
            if settings.detected(failures):
                break
            fault = swapped_files(toy, copy_of(interrupted), expected)
            notes["swapped files"] = int(notes.get("swapped files", 0)) + 1
            failures += [f"{task}, swapped files: {fault}"] if fault else []
            fault = invalid_precision(toy, copy_of(interrupted))
            notes["resumed: invalid precision"] = int(notes.get("resumed: invalid precision", 0)) + 1
            failures += [f"{task}, invalid precision: {fault}"] if fault else []
            shutil.rmtree(finished)
            shutil.rmtree(interrupted)
    trials = sum(int(n) for name, n in notes.items() if name != "detected")
    return Outcome(trials, tuple(failures), notes | {"harmless": trials - int(notes.get("detected", 0))})


def copy_of(folder: Path) -> Path:
    """Copy a run and its cache to a fixed path beside them, replacing the copy before."""
    work = folder.with_name("copy")
    shutil.rmtree(work, ignore_errors=True)
    return Path(shutil.copytree(folder, work, symlinks=True))


def files_of(work: Path, used: str) -> list[Path]:
    """The non-empty files that are read again in one of USES."""
    if used == "cache":
        found = [path for path in (work / "cache").rglob("*") if path.is_file()]
    elif used == "weights":
        found = [path for path in (work / "run" / "checkpoints" / "best").iterdir() if path.is_file()]
    else:
        last = (work / "run" / "checkpoints" / "last").iterdir()
        found = [path for path in last if path.name.startswith("state-")]
        found += [work / "run" / name for name in ("recipe.yaml", "provenance.json", "metrics.jsonl")]
    return sorted(path for path in found if path.stat().st_size)


def resume(toy: toys.Toy, work: Path, expected: dict[str, str]) -> tuple[str, bool]:
    """Resume a damaged run: (failure or "", whether a message reported the damage).

    An error with a cure, another state with a message, and unchanged results are no failures.
    """
    ended = toys.run_child(toy.resume(work), work)
    if ended.traceback or ended.status not in (0, 2, 3):
        return f"status {ended.status}: {ended.text[-400:]}", True
    if ended.status:
        return ("" if "cure:" in ended.text else f"no cure: {ended.text[-300:]}"), True
    marks = ("does not match its checksum", "cannot be verified", "resumed from the other", "decoding", "warning:")
    reported = any(mark in ended.text for mark in marks)
    differs = toys.different_files(expected, toys.fingerprint(work / "run"))
    if differs and "changed since the run was saved" in ended.text:
        return f"changed since the run was saved: {differs}", True
    return (f"undetected, and the results differ: {differs}" if differs else ""), reported


def load_weights(finished: Path, work: Path) -> tuple[str, bool]:
    """Load damaged best weights in a child process: (failure or "", whether an error reported the damage)."""
    child = os.fork()
    result = work / "result.txt"
    if not child:
        result.write_text(compare_weights(finished / "run", work / "run"))
        os._exit(0)
    os.waitpid(child, 0)
    text = result.read_text() if result.exists() else "the process that loads the weights died"
    return ("" if text in ("same", "rejected") else text), text == "rejected"


def compare_weights(original: Path, run: Path) -> str:
    """Load the best weights of both runs: "same", "rejected" with the other checkpoint in the cure, or the failure."""
    import torch

    from sightline.errors import SightlineError
    from sightline.runs import checkpoint

    expected, about = checkpoint.load_model(original)
    try:
        tensors, description = checkpoint.load_model(run)
    except SightlineError as error:
        return "rejected" if "last" in error.cure else f"the cure does not name the other checkpoint: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    same = tensors.keys() == expected.keys() and all(torch.equal(tensors[name], expected[name]) for name in expected)
    return "same" if same and description == about else "undetected: the weights or config.json differ"


def swapped_files(toy: toys.Toy, work: Path, expected: dict[str, str]) -> str:
    """Swap the two training states but not their checksums: neither is loaded in place of the other."""
    first, second = (work / "run" / "checkpoints" / "last" / f"state-{n}.safetensors" for n in (0, 1))
    first.rename(first.with_suffix(".tmp"))
    second.rename(first)
    first.with_suffix(".tmp").rename(second)
    ended = toys.run_child(toy.resume(work), work)
    if ended.status == 0:
        return toys.different_files(expected, toys.fingerprint(work / "run"))
    return "" if "checksum" in ended.text and "cure:" in ended.text and not ended.traceback else ended.text[-300:]


def invalid_precision(toy: toys.Toy, work: Path) -> str:
    """A flipped bit turns the precision in provenance.json into fp30: the error message contains the value."""
    path = work / "run" / "provenance.json"
    path.write_bytes(path.read_bytes().replace(b'"fp32"', b'"fp30"'))
    ended = toys.run_child(toy.resume(work), work)
    reported = ended.status == 2 and "'fp30'" in ended.text and "cure:" in ended.text
    return "" if reported and not ended.traceback else ended.text[-300:]


def skip_check(_: Any) -> Any:
    """A check of the cache that always succeeds."""
    return lambda folder, entry: True


ROWS = (
    Row(
        "bit flips and truncation",
        "Interruptions and disks",
        "a flipped bit, a truncated file, a page of zeros or swapped files, in training states, weights, checksums, "
        "config.json, the cache, recipe.yaml, provenance.json and metrics.jsonl: the damage is reported, or has no "
        "effect on weights and predictions",
        check,
        {"cache without verification": defects.replace_attribute("data.cache", "checksum_matches", skip_check)}
        | defects.select("checksum compared with itself"),
        toys.unavailable,
    ),
)
