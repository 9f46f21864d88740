"""Draw docs/images/pages.png, screenshots of the demo's reports for the README, or another picture of PICTURES, a
section of one page, with a headless Chromium.

sightline demo --out runs
python docs/images/pages.py runs
python docs/images/pages.py runs/grid grid.png
python docs/images/pages.py runs/start start.png
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from sightline.runs.atomic import atomic_write

HEIGHT, GAP, BACKGROUND = 1000, 24, (232, 230, 225)
PAGES = (  # run, width and height of the window in CSS pixels, selector of the section to scroll to
    ("digits", 1280, 1360, "#features-over-the-epochs"),
    ("scenes", 1280, 1360, "#masks-over-the-epochs"),
    ("transfer", 390, 844, "#does-pre-training-help"),
)
PICTURES = {  # the same for one page
    "pages.png": PAGES,
    "grid.png": (("", 1000, 980, "#does-pre-training-help"),),
    "start.png": (("", 1000, 740, "#what-was-worth-it"),),
}


def screenshot(browser: Browser, page: Path, width: int, height: int, selector: str) -> Image.Image:
    """A screenshot of the page in a window of this size, scaled to HEIGHT pixels."""
    context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=1.5)
    tab = context.new_page()
    tab.goto(page.resolve().as_uri())
    tab.evaluate("selector => document.querySelector(selector).scrollIntoView()", selector)
    tab.wait_for_timeout(1500)  # until the animation of the map has ended
    image = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    context.close()
    return image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS)


def main(runs: Path, name: str = "pages.png") -> None:
    """Write an image with screenshots side by side: of the demo's runs below `runs`, or of the page in `runs`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        images = [screenshot(browser, runs / folder / "report.html", *rest) for folder, *rest in PICTURES[name]]
        browser.close()
    width = sum(image.width + GAP for image in images) + GAP
    sheet, left = Image.new("RGB", (width, HEIGHT + 2 * GAP), BACKGROUND), GAP
    for image in images:
        sheet.paste(image, (left, GAP))
        left += image.width + GAP
    data = io.BytesIO()
    sheet.save(data, "PNG", optimize=True)
    atomic_write(Path(__file__).with_name(name), data.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
