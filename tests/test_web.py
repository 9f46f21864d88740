"""The committed scripts of the report and of `sightline serve` are the build of their sources."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parents[1] / "web"
PACKAGE = Path(__file__).parents[1] / "src" / "sightline"
ASSETS = PACKAGE / "report" / "assets"
SCRIPTS = (ASSETS / "report.js", PACKAGE / "serve" / "assets" / "serve.js")
NPM = shutil.which("npm")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_script_was_built_from_these_sources(script: Path) -> None:
    digest = hashlib.sha256()
    sources = sorted((WEB / "src").rglob("*.ts"), key=lambda path: path.relative_to(WEB).as_posix())
    for path in (WEB / "package.json", *sources):
        digest.update(f"{path.relative_to(WEB).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    first = script.read_text(encoding="ascii").splitlines()[0]
    assert digest.hexdigest() in first, "stale: run `make web`"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_script_uses_no_network_and_no_eval(script: Path) -> None:
    text = script.read_text(encoding="ascii")
    assert not re.search(r"\beval\(|new Function|XMLHttpRequest|importScripts", text)
    for path in (WEB / "src").rglob("*.ts"):
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", source), path
    assert "</script" not in text
    addresses = {found for found in re.findall(r"https?://[^\"'` ]+", text) if "www.w3.org" not in found}
    assert not addresses


@pytest.mark.slow
@pytest.mark.skipif(NPM is None, reason="npm is not installed")
def test_the_build_is_reproducible(tmp_path: Path) -> None:
    """Also type-check. The packages are those of package-lock.json."""
    shutil.copytree(WEB, tmp_path / "web", ignore=shutil.ignore_patterns("node_modules"))
    for command in (["ci"], ["run", "check"], ["run", "build", "--", str(tmp_path / "out")]):
        done = subprocess.run([str(NPM), *command], cwd=tmp_path / "web", capture_output=True, text=True, check=False)
        if done.returncode and command == ["ci"] and "network" in done.stderr:
            pytest.skip("the npm registry cannot be reached")
        assert done.returncode == 0, done.stderr + done.stdout
    for path in (*SCRIPTS, ASSETS / "uplot.css", ASSETS / "licenses.txt"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), f"{path.name}: run `make web`"
