"""Check a page in a browser by axe-core: the criteria of WCAG 2.2, levels A and AA, that a program can check."""

from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

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
