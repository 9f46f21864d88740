"""The workflow of the CI, the wheel, and the container image."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from sightline.__main__ import app

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAX_WHEEL_BYTES = 2_000_000


def jobs() -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]


def test_workflow_names_the_three_systems_and_the_python_versions() -> None:
    systems = set()
    for job in jobs().values():
        systems |= {*job["strategy"]["matrix"].get("os", [job["runs-on"]])}
        assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
        assert {"python-version": "${{ matrix.python }}"} in [step.get("with") for step in job["steps"]]
    assert systems == {"ubuntu-latest", "macos-latest", "windows-latest"}
    assert PROJECT["requires-python"] == ">=3.11"


def test_workflow_runs_commands_that_exist() -> None:
    """`make TARGET` with a target of the Makefile, commands of Sightline, and pip with extras of the project."""
    targets = re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
    lines = [step["run"] for job in jobs().values() for step in job["steps"] if "run" in step]
    assert any(line.startswith("make test") for line in lines)
    assert "make test" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for line in lines:
        program, *rest = line.split()
        if program == "make":
            assert rest[0] in targets
        elif program == "sightline":
            assert rest == ["--help"] or rest[0] in [*app]
        else:
            extras = re.fullmatch(r'python -m pip install --editable "\.\[([\w,]+)\]"', line)
            assert extras and {*extras[1].split(",")} <= {*PROJECT["optional-dependencies"]}
