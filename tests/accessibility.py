"""Check a page in a browser by axe-core: the criteria of WCAG 2.2, levels A and AA, that a program can check."""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CRITERIA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
RUN = """async (criteria) => {
    const { violations } = await axe.run(document, { runOnly: criteria });
    return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 200)}`));
}"""


def violations(page: "Page") -> list[str]:
    """The violations on a page, `rule: element`. Skips the test if axe-core is not installed."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-core is missing: make .venv/.installed-dev")
    page.evaluate((files(package) / "axe.min.js").read_text(encoding="utf-8"))
    return page.evaluate(RUN, CRITERIA)


def violations_of_file(browser: "Browser", path: Path) -> list[str]:
    """The violations of a page on disk, in light and in dark colors: `scheme: rule: element`."""
    found = []
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
        try:
            page = context.new_page()
            page.goto(path.as_uri())
            found += [f"{scheme}: {each}" for each in violations(page)]
        finally:
            context.close()
    return found
