"""Print a report to PDF with an installed Chromium."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..errors import ENVIRONMENT, SightlineError
from ..runs.atomic import atomic_write

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
PATHS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)
TIMEOUT_SECONDS = 180


def find_chromium() -> str:
    """The path of an installed Chromium, Chrome or Edge. Raises SightlineError (status ENVIRONMENT) if none is
    found."""
    found = next(filter(None, map(shutil.which, NAMES)), None) or next(filter(os.path.isfile, PATHS), None)
    if found is None:
        cure = "install Chromium or Chrome, or open report.html in any browser and print it"
        raise SightlineError(
            "printing a PDF needs Chromium, Chrome or Edge, and none was found", cure=cure, status=ENVIRONMENT
        )
    return found


def write_pdf(page: Path) -> Path:
    """Print the page `report.html` to report.pdf in the same folder; returns the path of the PDF.

    The browser runs with a temporary profile and without extensions. Raises SightlineError if it fails.
    """
    chromium = find_chromium()
    with tempfile.TemporaryDirectory(prefix="sightline-pdf-") as folder:
        printed = Path(folder) / "report.pdf"
        command = [chromium, "--headless", "--disable-gpu", "--disable-extensions", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += [f"--user-data-dir={folder}/profile", "--no-pdf-header-footer", f"--print-to-pdf={printed}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # the sandbox of Chromium does not support root
            command.append("--no-sandbox")
        try:
            done = subprocess.run([*command, page.resolve().as_uri()], capture_output=True, text=True, check=False,
                                  timeout=TIMEOUT_SECONDS)  # fmt: skip
            why = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        except (OSError, subprocess.TimeoutExpired) as error:
            why = [str(error)]
        if not printed.is_file() or not printed.stat().st_size:
            what, cure = "the browser did not write a PDF", "open the page in any browser and print it from there"
            why = f"{chromium}: {why[0]}"
            raise SightlineError(what, where=str(page), why=why, cure=cure, status=ENVIRONMENT)
        return atomic_write(page.with_suffix(".pdf"), printed.read_bytes())
