"""Draw docs/images/pages.png, the README's picture of the reports of `sightline demo`, with a headless Chromium.

sightline demo --out runs
python docs/images/pages.py runs
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from sightline.runs.atomic import atomic_write

HEIGHT, GAP, GROUND = 1000, 24, (232, 230, 225)
PAGES = (  # the run, the window's width and height in CSS pixels, what is scrolled to the top
    ("digits", 1280, 1360, "#features-over-the-epochs"),
    ("scenes", 1280, 1360, "#masks-over-the-epochs"),
    ("transfer", 390, 844, "#does-pre-training-pay"),
)


def shot(browser: Browser, page: Path, width: int, height: int, place: str) -> Image.Image:
    """What a window of this size shows of the page, HEIGHT pixels high."""
    context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=1.5)
    tab = context.new_page()
    tab.goto(page.resolve().as_uri())
    tab.evaluate("place => document.querySelector(place).scrollIntoView()", place)
    tab.wait_for_timeout(1500)  # points travel to their places
    picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    context.close()
    return picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT), Image.Resampling.LANCZOS)


def main(runs: Path) -> None:
    """The three pages side by side."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        pictures = [shot(browser, runs / name / "report.html", *rest) for name, *rest in PAGES]
        browser.close()
    width = sum(picture.width + GAP for picture in pictures) + GAP
    sheet, left = Image.new("RGB", (width, HEIGHT + 2 * GAP), GROUND), GAP
    for picture in pictures:
        sheet.paste(picture, (left, GAP))
        left += picture.width + GAP
    data = io.BytesIO()
    sheet.save(data, "PNG", optimize=True)
    atomic_write(Path(__file__).with_name("pages.png"), data.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
