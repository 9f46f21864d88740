"""A report as PDF, printed by a Chromium that is on the machine."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..errors import ENVIRONMENT, SightlineError
from ..runs.atomic import atomic_write

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)
LONGEST_SECONDS = 180


def find_chromium() -> str:
    """The path of a Chromium, Chrome or Edge. Raises SightlineError (status ENVIRONMENT) where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None) or next(filter(os.path.isfile, PLACES), None)
    if found is None:
        cure = "install Chromium or Chrome, or open report.html in any browser and print it there"
        raise SightlineError("a PDF needs a Chromium, and none is found", cure=cure, status=ENVIRONMENT)
    return found


def write_pdf(page: Path) -> Path:
    """Print the page `report.html` to report.pdf beside it; returns the PDF's path.

    The browser gets a profile of its own, no network and no extension. Raises SightlineError where it gives no PDF.
    """
    chromium = find_chromium()
    with tempfile.TemporaryDirectory(prefix="sightline-pdf-") as folder:
        printed = Path(folder) / "report.pdf"
        command = [chromium, "--headless", "--disable-gpu", "--disable-extensions", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += [f"--user-data-dir={folder}/profile", "--no-pdf-header-footer", f"--print-to-pdf={printed}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # Chromium refuses its sandbox to root
            command.append("--no-sandbox")
        try:
            done = subprocess.run(
                [*command, page.resolve().as_uri()],
                capture_output=True,
                text=True,
                timeout=LONGEST_SECONDS,
                check=False,
            )
            said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        except (OSError, subprocess.TimeoutExpired) as error:
            said = [str(error)]
        if not printed.is_file() or not printed.stat().st_size:
            cure = "open the page in a browser and print it there"
            raise SightlineError(
                "the browser gave no PDF", where=str(page), why=f"{chromium}: {said[0]}", cure=cure, status=ENVIRONMENT
            )
        return atomic_write(page.with_suffix(".pdf"), printed.read_bytes())
