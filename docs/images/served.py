"""Draw docs/images/serve.png, the page of `sightline serve` with one of its example images, with a headless Chromium.

sightline train digits --out runs/digits
python docs/images/served.py runs/digits 3    # the fourth example
"""

import io
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from sightline.runs.atomic import atomic_write

PORT, SECONDS = 8765, 60


def main(run: str, example: int) -> None:
    """Serve the run, choose an example, wait for its neighbors, and write the picture."""
    command = [sys.executable, "-m", "sightline", "serve", run, "--port", str(PORT)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        for line in server.stdout:  # until the server says its address
            if str(PORT) in line:
                break
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            tab = browser.new_context(viewport={"width": 1180, "height": 900}).new_page()
            tab.goto(f"http://127.0.0.1:{PORT}/")
            tab.wait_for_timeout(15_000)  # for the features of the training images
            tab.locator("main button:has(img), main button:has(canvas)").nth(example).click()
            tab.get_by_text("Nearest training").wait_for(timeout=1000 * SECONDS)
            tab.wait_for_timeout(3000)
            image = Image.open(io.BytesIO(tab.screenshot(full_page=True)))
            browser.close()
    finally:
        server.terminate()
        server.wait()
    data = io.BytesIO()
    image.convert("RGB").save(data, "PNG", optimize=True)
    atomic_write(Path(__file__).with_name("serve.png"), data.getvalue())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
