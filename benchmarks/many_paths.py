"""Time and memory of a data set with many files: from the command `sightline train` or `start` to the first step of a
training, or of `sightline doctor` to its end.

    python benchmarks/many_paths.py --images 10000 100000 1000000 --json many_paths.json
    python benchmarks/many_paths.py --command start --kinds folders

The images are uncompressed, with 8x8 random pixels and a random number of unused bytes, in 1,000 classes. `folders`:
class folders. `table`: one folder and a CSV with a row for each image. `scattered`: the class folders and a CSV that
names the images without their folders. Cold: the images are searched for copies and decoded into an empty cache. Warm:
both are in the cache. Memory is the peak resident memory of the process.

The work must not grow faster than the number of images: the last columns are the processor time of a warm start and
its memory for each image added since the row above of this kind. Seconds depend on other processes on the machine.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from machine import machine_info, machine_line, write_results

SIDE, CLASSES, PADDING = 8, 1000, 2000
KINDS = ("folders", "table", "scattered")


def write_images(root: Path, count: int, kinds: Sequence[str]) -> None:
    """Write the data of these kinds below `root`; the class folders have hard links to the images of `table`."""
    random = np.random.default_rng(0)
    header = b"BM" + (54).to_bytes(12, "little")[:4] + bytes(4) + (54).to_bytes(4, "little")
    header += b"".join(n.to_bytes(4, "little") for n in (40, SIDE, SIDE)) + b"\1\0\x18\0" + bytes(24)
    images, rows = root / "table" / "images", []
    images.mkdir(parents=True)
    linked = [kind for kind in kinds if kind != "table"]
    for kind in linked:
        for label in range(CLASSES):
            (root / kind / f"class{label:03d}").mkdir(parents=True)
    for index in range(count):
        name, label = f"{index:07d}.bmp", f"class{index % CLASSES:03d}"
        content = header + random.bytes(3 * SIDE * SIDE) + bytes(int(random.integers(PADDING)))
        (images / name).write_bytes(content)
        for kind in linked:
            os.link(images / name, root / kind / label / name)
        rows.append(f"{name},{label}\n")
    for kind in {"table", *linked} - {"folders"}:
        (root / kind / "labels.csv").write_text("filename,label\n" + "".join(rows))


def arguments_of(command: str, data: Path, run: Path) -> list[str]:
    """The arguments of a command of Sightline on the data, for images of 8x8 pixels. run: folder of its results."""
    if command == "doctor":
        return ["doctor", str(data), "--out", str(run)]
    layout = "csv" if data.name == "scattered" else "auto"
    if command == "start":
        return ["start", str(data), "--weights", "none", "--out", str(run), "--data.layout", layout]
    settings: dict[str, str | int] = {"data.size": SIDE, "augment.resize": 0, "train.epochs": 1, "report.samples": 0}
    settings |= {"model.name": "small_cnn", "data.layout": layout}
    words = (word for key, value in settings.items() for word in (f"--{key}", str(value)))
    return ["train", "photos_scratch", "--data", str(data), "--out", str(run), "--quiet", *words]


def first_step(command: str, data: Path, run: Path, cache: Path) -> tuple[float, float, int]:
    """Run a command until the first step of a training, or, without one, to its end: (seconds and processor seconds
    since it started, peak memory in bytes)."""
    words = [sys.executable, "-m", "sightline", *arguments_of(command, data, run)]
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=os.environ | {"SIGHTLINE_CACHE": str(cache)})
    logs = ("metrics.jsonl", "*/metrics.jsonl")
    while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if any('"start"' in log.read_text() for pattern in logs for log in run.glob(pattern)):
            break
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    folder = Path(f"/proc/{process.pid}")
    ticks = sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:15]))
    if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):  # its status has no memory any more
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if command != "doctor" or process.returncode not in (0, 5):  # 5: it found something
            raise SystemExit(f"sightline {command} ended with exit status {process.returncode}")
        return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    peak = next(line for line in (folder / "status").read_text().splitlines() if line.startswith("VmHWM"))
    process.kill()
    process.wait()
    return seconds, ticks / os.sysconf("SC_CLK_TCK"), int(peak.split()[1]) * 1024


def main() -> None:
    """Print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--command", default="train", choices=("train", "start", "doctor"))
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--folder", help="where to write the images; default: a temporary folder")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    info, results = machine_info(), []
    print(machine_line(info))
    print("kind          images  cold s  warm s  processor s (cold, warm)  memory MB  warm us/image  bytes/image")
    for count in options.images:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            root = Path(folder)
            write_images(root, count, options.kinds)
            for kind in options.kinds:
                cold = first_step(options.command, root / kind, root / "run0", root / "cache")
                warm = first_step(options.command, root / kind, root / "run1", root / "cache")
                for run in ("run0", "run1"):
                    shutil.rmtree(root / run, ignore_errors=True)
                row = {"kind": kind, "images": count, "cold": cold, "warm": warm}
                before = next((one for one in reversed(results) if one["kind"] == kind), row)
                more = max(1, count - before["images"])
                slope = [(warm[column] - before["warm"][column]) / more for column in (1, 2)]
                results.append(row)
                print(
                    f"{kind:<10} {count:>9,} {cold[0]:>7.1f} {warm[0]:>7.1f} {cold[1]:>17.1f}, {warm[1]:>5.1f}"
                    f"{cold[2] / 1e6:>11.0f} {slope[0] * 1e6:>14.1f} {slope[1]:>12.0f}",
                    flush=True,
                )
    write_results(options.json, info, results)


if __name__ == "__main__":
    main()
