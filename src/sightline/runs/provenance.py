"""Provenance of a run: command, commit, versions, machine."""

import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "sightline-vision",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pillow",
    "scikit-learn",
    "openTSNE",
    "safetensors",
)
COMPUTES = ("sightline-vision", "torch", "torchvision", "timm", "numpy", "pillow")
"""Those that affect the weights of a run."""


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change results."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """Git commit of the running source code, "+changes" if modified; None outside a Git checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        if not git("ls-files", str(Path(__file__))):
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> list[str]:
    """The command line of this process."""
    return ["sightline", *sys.argv[1:]] if sys.argv[0].endswith(("sightline", "__main__.py")) else list(sys.argv)


def rounding_note(record: dict[str, Any], entry: dict[str, Any], device: torch.device) -> str:
    """A note if a resumed run may not be bit-identical to an uninterrupted one; else "".

    This is the case if the processor, the threads, the number of processes, the source code or the version of a package
    in COMPUTES changed; and always on a GPU, because torch's deterministic algorithms are not switched on. record:
    provenance.json before the resume. entry: what the resume will add to the list `resumes` in it.
    """
    before = {**record, **next(iter(record.get("resumes", [])[-1:]), {})}
    was, now = (part.get("versions", {}) | part for part in (before, entry))
    keys = ("device", "processes", *COMPUTES, "threads", "git_commit")
    changed = [f"{key} {was[key]} -> {now.get(key)}" for key in keys if was.get(key) not in (None, now.get(key))]
    if device.type != "cpu":
        changed.append(f"computed on {device.type}, where the order of sums is not fixed")
    if not changed:
        return ""
    return f"not bit-identical to an uninterrupted run, from step {entry['step']:,} on: {', '.join(changed)}"


def describe_run(rounding: Mapping[str, Any], precision: str, **fields: Any) -> dict[str, Any]:
    """The content of provenance.json: command, versions, platform, precision, and further `fields`. rounding:
    device, threads and number of processes, from `engine.device.rounding`."""
    return {
        "command": command_line(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": git_commit(),
        "versions": installed_versions(),
        "platform": platform.platform(),
        **rounding,
        "precision": precision,
        **fields,
    }
