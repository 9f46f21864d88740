"""Accessibility of the report in a real browser: axe-core in both themes, keyboard, reduced motion."""

from collections.abc import Callable
from pathlib import Path

import pytest

from accessibility import violations

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make .venv/.installed-dev")


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_the_report_satisfies_wcag_aa(report: Path, open_page: Callable, dark: bool) -> None:
    assert violations(open_page(report, dark=dark)) == []


def test_every_control_of_the_report_is_reached_by_the_keyboard_and_shows_its_focus(
    report: Path, open_page: Callable
) -> None:
    page = open_page(report, still=True)
    reached = set()
    for _ in range(200):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
                const element = document.activeElement, style = getComputedStyle(element);
                element.dataset.reached = "yes";
                const shown = [style.outlineStyle, style.textDecorationLine];
                return [element.tagName, element.textContent.slice(0, 40), ...shown];
            }"""
        )
        if focused[0] == "BODY":
            break
        reached.add(focused[0])
        assert focused[2] != "none" or "underline" in focused[3], f"no visible focus: {focused}"
    assert {"A", "BUTTON", "CANVAS", "INPUT"} <= reached
    missed = page.evaluate(
        """() => [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
            .filter((one) => one.checkVisibility() && !one.dataset.reached && !one.disabled)
            .map((one) => one.outerHTML.slice(0, 120))"""
    )
    assert missed == []


def test_with_reduced_motion_the_page_does_not_scroll_smoothly(report: Path, open_page: Callable) -> None:
    behavior = "getComputedStyle(document.documentElement).scrollBehavior"
    assert open_page(report, still=True).evaluate(behavior) == "auto"
    assert open_page(report).evaluate(behavior) == "smooth"
