"""The site of the documentation: built without warnings, read without a network, with a complete reference."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import reference
from sightline.__main__ import app
from sightline.config.resolve import all_keys
from sightline.runs.run_folder import RUN_FILES
from sightline.tasks import TASKS

ROOT = Path(__file__).parent.parent
FIXTURES = Path(__file__).parent / "fixtures" / "runs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.slow
def test_every_page_opens_without_a_network(site: Path) -> None:
    pages = [path for path in site.rglob("*.html")]
    assert len(pages) > 40
    loaded = re.compile(r"""(?:<script[^>]*src|<link[^>]*href|<img[^>]*src|<iframe[^>]*src)="(?:https?:)?//[^"]*""")
    found = {match for page in pages for match in loaded.findall(page.read_text(encoding="utf-8"))}
    assert not {each for each in found if 'rel="canonical"' not in each}


@pytest.mark.slow
def test_the_search_finds_settings_messages_and_guides_from_disk(site: Path) -> None:
    text = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("var __index = "))
    titles = {entry["title"] for entry in index["docs"]}
    assert {"optim.lr", "Your first classifier", "Glossary"} <= titles
    assert any("no images found" in entry["text"] or "there is no setting" in entry["text"] for entry in index["docs"])
    assert (site / "assets" / "iframe-worker.js").is_file()
    assert {"A first classifier, in a notebook", "Masks, in a notebook"} <= titles
    assert len(list((site / "notebooks").glob("*.ipynb"))) == 2


@pytest.mark.slow
def test_no_link_of_a_page_leads_to_a_missing_file(site: Path) -> None:
    for page in site.rglob("*.html"):
        for target in re.findall(r'(?:href|src)="([^"#?:]+)[#"]', page.read_text(encoding="utf-8")):
            if page.name != "404.html":
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_setting_of_every_task_is_in_the_reference() -> None:
    headings = re.findall(r"^#### (.+)$", reference.settings(), re.MULTILINE)
    assert sorted(headings) == sorted({key for task in TASKS.values() for key in all_keys(task.config)})


def test_every_command_is_in_the_reference() -> None:
    text = reference.commands()
    for name in app:
        if not name.startswith("-"):
            assert f"\n## sightline {name}\n" in text, name
    assert "sightline predict [OPTIONS] RUN" in text and "](../extend.md)" in text


def test_the_final_numbers_of_runs_are_in_the_reference() -> None:
    text = reference.metrics()
    for path in FIXTURES.glob("*/metrics.jsonl"):
        done = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        for key in done if done["event"] == "done" else ():
            name = key.removesuffix("_interval")
            assert name in ("event", "step", "epoch") or f"`{name}`" in text, key


def test_every_metric_has_a_meaning() -> None:
    without = [
        f"{task.name}: {key}" for task in TASKS.values() for key, metric in task.metrics.items() if not metric.meaning
    ]
    assert not without


def test_messages_and_their_cures_are_in_the_reference() -> None:
    text = reference.errors()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) > 300
    assert "| this file has no function recipe() that works | define the function" in text
    assert "| cannot read the recipe | check that this is the path of a recipe |" in text


def test_every_file_of_a_run_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "run-folder.md").read_text(encoding="utf-8")
    for name in RUN_FILES:
        assert f"`{name}`" in text or f"`{name}/" in text, name
