"""Shared by rivals.py and probe_rivals.py: virtual environments of other tools, and their workers in rivals/."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

WORKERS = Path(__file__).with_name("rivals")
MARK = "stopwatch "
"""Start of the line of output with a worker's result; as in rivals/stopwatch.py."""


def environment(name: str, packages: tuple[str, ...], envs: Path) -> Path | None:
    """Return the Python of a virtual environment with these packages, which is created if missing; None if the
    installation fails."""
    folder = (envs / name).absolute()
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = folder / "installed"
    if ready.exists():
        return python
    pinned = [f"{package}=={version(package).partition('+')[0]}" for package in ("torch", "torchvision")]
    uv = shutil.which("uv")
    make = [uv, "venv", "--quiet", "--clear"] if uv else [sys.executable, "-m", "venv", "--clear"]
    python_of_uv = ["--python", sys.executable] if uv else []
    pip = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
    print(f"installing {name} into {folder}", flush=True)
    env = os.environ | {"UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(envs.absolute() / "cache"))}
    for command in ([*make, *python_of_uv, str(folder)], [*pip, "--quiet", *pinned, *packages]):
        done = subprocess.run([str(word) for word in command], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            print(f"skipped {name}: it cannot be installed: {reason[0]}")
            return None
    ready.touch()
    return python


def worker_environment(threads: int, cache: Path) -> dict[str, str]:
    """The environment variables of a run: threads of OpenMP, and the folder of Sightline's cache."""
    removed = ("PYTHONPATH", "OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE")
    env = {key: value for key, value in os.environ.items() if key not in removed}
    return env | {"OMP_NUM_THREADS": str(threads), "SIGHTLINE_CACHE": str(cache)}


def sightline_path() -> dict[str, str]:
    """PYTHONPATH as an environment variable for runs of Sightline, if it is set."""
    return {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}


def run_worker(title: str, command: list[str], env: dict[str, str], folder: Path) -> dict[str, Any] | None:
    """Run a worker in `folder` and return its result; print a message and return None if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=folder)
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        print(f"skipped {title}: {reason[0]}", flush=True)
        return None
    return json.loads(lines[-1].removeprefix(MARK))


def stored_settings(envs: Path) -> dict[str, Any]:
    """The settings that were chosen for other tools by earlier commands; {} if there are none."""
    path = envs / "settings.json"
    return json.loads(path.read_text()) if path.exists() else {}


def store_settings(envs: Path, settings: dict[str, Any]) -> None:
    """Store the settings for later commands."""
    (envs / "settings.json").write_text(json.dumps(settings, indent=1))
