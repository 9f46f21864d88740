"""The workflow of the CI, the wheel, and the container image."""

import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from sightline.__main__ import app, run

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAX_WHEEL_BYTES = 2_000_000


def jobs() -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]


def test_workflow_names_the_three_systems_and_the_python_versions() -> None:
    systems = set()
    for job in [jobs()[name] for name in ("suite", "demo")]:
        systems |= {*job["strategy"]["matrix"].get("os", [job["runs-on"]])}
        assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
        assert {"python-version": "${{ matrix.python }}"} in [step.get("with") for step in job["steps"]]
    assert systems == {"ubuntu-latest", "macos-latest", "windows-latest"}
    assert PROJECT["requires-python"] == ">=3.11"


def test_workflow_runs_commands_that_exist() -> None:
    """`make TARGET` with a target of the Makefile, commands of Sightline, and pip with extras of the project."""
    targets = re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
    steps = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs().items()}
    package = steps.pop("package")
    assert package[-1].split()[:2] == ["make", "docs"] and "docs" in targets
    assert any(line.startswith("empty/bin/sightline start sklearn:digits") for line in package)
    lines = [line for each in steps.values() for line in each]
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("needs hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_is_small_and_complete(wheel: Path) -> None:
    assert wheel.stat().st_size < MAX_WHEEL_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("sightline/")}
        license_text = archive.read(f"sightline_vision-{PROJECT['version']}.dist-info/licenses/LICENSE")
        scripts = archive.read("sightline/report/assets/licenses.txt").decode()
    source = ROOT / "src"
    files = {path.relative_to(source).as_posix() for path in (source / "sightline").rglob("*") if path.is_file()}
    assert names == {name for name in files if "__pycache__" not in name}
    assert license_text == (ROOT / "LICENSE").read_bytes()
    for package in ("d3-zoom", "d3-quadtree", "uplot"):
        assert package in scripts.lower()


def test_wheel_has_valid_metadata(wheel: Path) -> None:
    if importlib.util.find_spec("twine") is None:
        pytest.skip("needs twine")
    command = [sys.executable, "-m", "twine", "check", "--strict", str(wheel)]
    child = subprocess.run(command, capture_output=True, text=True)
    assert child.returncode == 0, child.stdout


def test_container_has_two_variants_and_only_files_that_exist() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu" in text and "whl/cu" in text
    copied = [name for line in re.findall(r"(?m)^COPY (?!--)(.*) \S+$", text) for name in line.split()]
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied and all((ROOT / name).exists() and f"!{name}" in allowed for name in copied)
    (extras,) = re.findall(r"ARG EXTRAS=(\S+)", text)
    assert {*extras.split(",")} <= {*PROJECT["optional-dependencies"]}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_installed(shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    target = tmp_path / "completion"
    assert run(["--install-completion", "--shell", shell, "--output", str(target)]) == 0
    script = target.read_text(encoding="utf-8")
    assert all(command in script for command in ("train", "doctor", "runs"))
