"""The report as PDF."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import sightline
from sightline import SightlineError
from sightline.report import pdf


@pytest.mark.slow
def test_a_report_is_printed_to_pdf_with_its_figures(make_run: Callable[..., Path], tmp_path: Path) -> None:
    try:
        pdf.find_chromium()
    except SightlineError:
        pytest.skip("no Chromium is here (Debian: apt-get install chromium)")
    run = make_run(tmp_path / "a run", epochs=(1, 2))
    path = sightline.report(run, pdf=True)
    data = path.read_bytes()
    assert path == run / "report.pdf" and data.startswith(b"%PDF") and data.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 3 and len(re.findall(rb"/Subtype\s*/Image\b", data)) >= 8


def test_a_missing_browser_is_an_error_with_the_cure(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "NAMES", ())
    monkeypatch.setattr(pdf, "PATHS", ())
    run = make_run(tmp_path / "run", epochs=(1,))
    with pytest.raises(SightlineError, match="needs Chromium") as caught:
        sightline.report(run, pdf=True)
    assert caught.value.status == 3 and "print it" in caught.value.cure
    assert (run / "report.html").is_file() and not (run / "report.pdf").exists()


FAKE = """#!/bin/sh
printf '%s\\n' "$@" > "$(dirname "$0")/arguments"
for argument; do case $argument in --print-to-pdf=*) printf '{content}' > "${{argument#*=}}";; esac; done
{more}
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """fake(content, more=""): print tmp_path/report.html with a fake browser; returns its arguments."""

    def printed(content: str, more: str = "") -> list[str]:
        browser = tmp_path / "chromium"
        browser.write_text(FAKE.format(content=content, more=more))
        browser.chmod(0o755)
        monkeypatch.setattr(pdf, "find_chromium", lambda: str(browser))
        pdf.write_pdf(tmp_path / "report.html")
        return (tmp_path / "arguments").read_text().splitlines()

    return printed


def test_the_browser_prints_no_header_and_uses_a_temporary_profile(fake, tmp_path: Path) -> None:
    arguments = fake("%%PDF")
    assert (tmp_path / "report.pdf").read_bytes() == b"%PDF" and "--no-pdf-header-footer" in arguments
    (profile,) = [Path(each.partition("=")[2]) for each in arguments if each.startswith("--user-data-dir=")]
    assert profile.parent.name.startswith("sightline-pdf-") and not profile.parent.exists()
    assert arguments[-1] == (tmp_path / "report.html").as_uri()


def test_an_empty_pdf_or_a_timeout_is_an_error(fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SightlineError, match="did not write a PDF"):
        fake("")
    monkeypatch.setattr(pdf, "TIMEOUT_SECONDS", 0.3)
    with pytest.raises(SightlineError, match="did not write a PDF") as caught:
        fake("", "exec sleep 20")
    assert "timed out" in caught.value.why and not (tmp_path / "report.pdf").exists()


def test_the_error_names_a_failing_browser(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\necho no display >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(pdf, "find_chromium", lambda: str(broken))
    run = make_run(tmp_path / "run", epochs=(1,))
    with pytest.raises(SightlineError, match="did not write a PDF") as caught:
        sightline.report(run, pdf=True)
    assert "no display" in caught.value.why and not (run / "report.pdf").exists()
