"""The committed script of the report is what its sources give."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parents[1] / "web"
ASSETS = Path(__file__).parents[1] / "src" / "sightline" / "report" / "assets"
NPM = shutil.which("npm")


def test_the_script_was_built_from_these_sources() -> None:
    digest = hashlib.sha256()
    for path in (WEB / "package.json", *sorted((WEB / "src").iterdir())):
        digest.update(f"{path.relative_to(WEB).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    first = (ASSETS / "report.js").read_text(encoding="ascii").splitlines()[0]
    assert digest.hexdigest() in first, "stale: run `make web`"


def test_the_script_needs_no_network_and_makes_no_code() -> None:
    text = (ASSETS / "report.js").read_text(encoding="ascii")
    assert not re.search(r"\beval\(|new Function|XMLHttpRequest|importScripts", text)
    for path in (WEB / "src").iterdir():
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", source), path
    assert "</script" not in text
    addresses = {found for found in re.findall(r"https?://[^\"'` ]+", text) if "www.w3.org" not in found}
    assert not addresses


@pytest.mark.skipif(NPM is None, reason="no npm is here: the build is not repeated")
def test_building_again_gives_the_same_bytes(tmp_path: Path) -> None:
    """Types are checked too. The packages are those of package-lock.json, exactly."""
    shutil.copytree(WEB, tmp_path / "web", ignore=shutil.ignore_patterns("node_modules"))
    for command in (["ci"], ["run", "check"], ["run", "build", "--", str(tmp_path / "out")]):
        done = subprocess.run([str(NPM), *command], cwd=tmp_path / "web", capture_output=True, text=True, check=False)
        if done.returncode and command == ["ci"] and "network" in done.stderr:
            pytest.skip("the npm registry cannot be reached: the build is not repeated")
        assert done.returncode == 0, done.stderr + done.stdout
    for name in ("report.js", "uplot.css", "licenses.txt"):
        assert (tmp_path / "out" / name).read_bytes() == (ASSETS / name).read_bytes(), f"{name}: run `make web`"
