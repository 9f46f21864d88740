"""What a run must say of itself so that others can repeat it."""

import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from .device import device_name, precision_name

PACKAGES = ("sightline", "torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn", "openTSNE", "safetensors")


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


def describe_run(device: torch.device, dtype: torch.dtype, **fields: Any) -> dict[str, Any]:
    """provenance.json: command, versions, device, precision, threads, plus the fields that the caller knows."""
    return {
        "command": command_line(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": git_commit(),
        "versions": installed_versions(),
        "platform": platform.platform(),
        "device": device_name(device),
        "precision": precision_name(dtype),
        "threads": torch.get_num_threads(),
        **fields,
    }
