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


def installed_versions() -> dict[str, str]:
    """Versions of Python and of every package that can change a number."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, marked where it has changes; None outside one."""
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
    """What was typed, as far as Python knows."""
    return ["sightline", *sys.argv[1:]] if sys.argv[0].endswith(("sightline", "__main__.py")) else list(sys.argv)


def not_identical(record: dict[str, Any], entry: dict[str, Any], device: torch.device) -> str:
    """A sentence where a run that is resumed rounds its sums otherwise than before; "" where it does as before.

    record: provenance.json until then. entry: what is added to its `resumes`.
    """
    before = {**record, **next(iter(record.get("resumes", [])[-1:]), {})}
    was, now = ({**part, "torch": part.get("versions", {}).get("torch")} for part in (before, entry))
    keys = ["device", "processes", "torch", *(["threads"] if device.type == "cpu" else [])]
    changed = [f"{key} {was[key]} -> {now[key]}" for key in keys if was.get(key) not in (None, now[key])]
    if not changed:
        return ""
    return f"not bit-identical to a run never stopped, from step {entry['step']:,} on: {', '.join(changed)}"


def describe_run(rounding: Mapping[str, Any], precision: str, **fields: Any) -> dict[str, Any]:
    """provenance.json: command, versions, device, precision, `fields`. rounding: of `engine.device.rounding`."""
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
