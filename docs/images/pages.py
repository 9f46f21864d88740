"""Draw docs/images/pages.png, screenshots of two reports for the README, or another picture of PICTURES, a
section of one page, with a headless Chromium.

python -c "from sightline.data.scenes import write_scenes; write_scenes('land', 300, 30, size=192)"
sightline train digits --out runs/digits
sightline train landcover_finetune --data land --data.palette landcover --train.epochs 12 --out runs/scenes
python docs/images/pages.py runs
sightline repeat digits --folds 4 --train.epochs 3 --out runs/folds
python docs/images/pages.py runs/folds folds.png
python docs/images/pages.py runs/folds/fold-3-seed-0 report.png
python docs/images/pages.py runs/scenes segment.png
python benchmarks/copied_digits.py digits && sightline doctor digits --out runs/doctor
python docs/images/pages.py runs/doctor doctor.png
python docs/images/pages.py runs/grid grid.png
python docs/images/pages.py runs/start start.png
python docs/images/pages.py RUN multilabel.png   # RUN: that of benchmarks/class_maps.py
python docs/images/pages.py RUN class-maps.png
sightline sweep digits --trials 8 --optim.lr 1e-3..1 --train.batch_size 32,64,128 --train.epochs 5 --out runs/sweep
python docs/images/pages.py runs/sweep sweep.png
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
    ("digits", 560, 720, "#summary"),
    ("digits", 720, 1000, "#features-over-the-epochs"),
    ("scenes", 780, 1010, "#masks-over-the-epochs"),
)
PICTURES = {  # the same for one page
    "pages.png": PAGES,
    "grid.png": (("", 1000, 980, "#does-pre-training-help"),),
    "start.png": (("", 1000, 740, "#what-was-worth-it"),),
    "folds.png": (("", 900, 760, "#result"),),
    "report.png": (("", 1000, 900, "#errors-by-class"), ("", 1000, 900, "#misclassified-images")),
    "segment.png": (("", 760, 1010, "#masks-over-the-epochs"), ("", 760, 800, "#class-by-class")),
    "class-maps.png": (("", 1000, 1180, "#class-activation-maps"),),
    "multilabel.png": (("", 1000, 720, "#classes"),),
    "sweep.png": (("", 1000, 900, "#the-best-trial"), ("", 1000, 900, "#the-search")),
    "doctor.png": (("", 900, 900, "#summary"), ("", 900, 900, "#leak")),
}


def screenshot(browser: Browser, page: Path, width: int, height: int, selector: str) -> Image.Image:
    """A screenshot of the page in a window of this size, scaled to HEIGHT pixels."""
    context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=1.5)
    tab = context.new_page()
    tab.goto(page.resolve().as_uri())
    if selector.startswith("#masks"):
        tab.get_by_role("group", name="Left").get_by_role("button", name="Image").click()
    tab.evaluate("selector => document.querySelector(selector).scrollIntoView()", selector)
    tab.wait_for_timeout(1500)  # until the animation of the map has ended
    image = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    context.close()
    return image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS)


def page_in(folder: Path) -> Path:
    """The page of a run, or of the doctor."""
    page = folder / "report.html"
    return page if page.is_file() else folder / "doctor.html"


def main(runs: Path, name: str = "pages.png") -> None:
    """Write an image with screenshots side by side: of the demo's runs below `runs`, or of the page in `runs`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        images = [screenshot(browser, page_in(runs / folder), *rest) for folder, *rest in PICTURES[name]]
        browser.close()
    width = sum(image.width + GAP for image in images) + GAP
    sheet, left = Image.new("RGB", (width, HEIGHT + 2 * GAP), BACKGROUND), GAP
    for image in images:
        sheet.paste(image, (left, GAP))
        left += image.width + GAP
    data = io.BytesIO()
    sheet.quantize(256).save(data, "PNG", optimize=True)
    atomic_write(Path(__file__).with_name(name), data.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
