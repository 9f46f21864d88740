"""A run in a notebook: HTML with the summary, curves and mistakes; the report can be opened."""

import json
from pathlib import Path

import pytest

from sightline import Run, SightlineError

PNG = b"\x89PNG\r\n\x1a\nnot drawn"


def finished(folder: Path) -> Run:
    (folder / "figures").mkdir(parents=True)
    for name in ("curve-accuracy", "curve-learning-rate", "curve-loss", "mistakes", "confusion"):
        (folder / "figures" / f"{name}.png").write_bytes(PNG)
    (folder / "report.html").write_text('<h1>x</h1><p class="lead">It classifies <b>80%</b>.</p><p>y</p>')
    (folder / "checkpoints/best").mkdir(parents=True)
    done = {"event": "done", "step": 1, "epoch": 1, "seconds": 1.0, "accuracy": 0.8}
    (folder / "metrics.jsonl").write_text(json.dumps(done) + "\n")
    return Run(folder)


def test_a_finished_run_is_its_summary_curves_mistakes_and_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished(tmp_path / 'a "b" & c')
    monkeypatch.chdir(tmp_path)
    text = run._repr_html_()
    assert '<p class="lead">It classifies <b>80%</b>.</p>' in text and "<h1>" not in text
    names = [part.split('"')[0] for part in text.split('alt="')[1:]]
    assert names == ["curve loss", "curve accuracy", "mistakes"]
    assert 'href="a &quot;b&quot; &amp; c/report.html"' in text and 'src="data:image/png;base64,' in text


def test_an_unfinished_run_says_how_to_resume_it(tmp_path: Path) -> None:
    text = Run(tmp_path / "<script>")._repr_html_()
    assert "sightline.resume(run)" in text and "&lt;script&gt;" in text and "<script>" not in text


def test_the_report_opens_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: not opened.append(url))
    assert finished(tmp_path / "run").open_report()
    assert opened == [(tmp_path / "run/report.html").as_uri()]


def test_a_run_from_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert Run("run").metrics["accuracy"] == 0.8 and Run("run") == Run(Path("run"))
    with pytest.raises(SightlineError, match="not a run folder"):
        Run("ran").metrics  # noqa: B018
