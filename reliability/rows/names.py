"""Markup and paths in every name: of classes, files, runs and recipes, in settings and errors; on pages, and as paths.

A page is rendered twice, with hostile and with harmless names; its elements and attributes must be the same.
"""

import contextlib
import csv
import html
import json
from collections import Counter
from collections.abc import Callable, Generator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from reliability.contract import Outcome, Row, Settings
from reliability.mutants import scene
from sightline.config import Config, Data
from sightline.errors import SightlineError
from sightline.report import html as building
from sightline.settings import resolve, to_yaml

SECTION = "Hostile input"
PAYLOADS = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "' onmouseover='alert(1)",
    "</script><script>alert(1)</script>", "</style><script>alert(1)</script>", "</title><script>alert(1)</script>",
    "<!--", "-->", "]]>", "javascript:alert(1)", "<a href=javascript:alert(1)>x</a>", "<iframe src=//evil.com>",
    "<base href=//evil.com>", "<meta http-equiv=refresh content=0;url=//evil.com>", "<link rel=stylesheet href=//evil>",
    "{{7*7}}", "${alert(1)}", "`alert(1)`", "\u2028alert(1)\u2029", "&lt;script&gt;", "&#60;script&#62;", "a\nb<b>",
    "<details open ontoggle=alert(1)>", "<math><mi xlink:href=data:x>", "url(javascript:alert(1))", "\\u003cscript>",
    "<textarea><script>", "<template><img src=x>", "%3Cscript%3E",
)  # fmt: skip
TOGETHER = "\"'><img src=x onerror=alert(1)></script></title></style><script>alert(1)</script>"
HARMLESS = "a plain name"


class Parsed(HTMLParser):
    """Counts the elements of a page with the names of their attributes; `addresses`: values that lead elsewhere."""

    def __init__(self, page: str):
        super().__init__()
        self.found: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = sorted(name for name, _ in attrs if name not in ("title", "class"))  # long texts have a class
        self.found[f"{tag} {' '.join(names)}"] += 1
        for name, value in attrs:
            leads = name in ("src", "href", "action", "formaction", "srcset", "data", "xlink:href", "poster")
            if name.startswith("on") or (leads and not (value or "").startswith(("data:image/", "#"))):
                self.addresses.append(f"{tag} {name}={value}")


def write_run(folder: Path, mark: str) -> Path:
    """A finished run, as training leaves it, with `mark` in every name that somebody else may have chosen."""
    classes = [f"{place} {mark}" for place in range(3)]
    names = [f"val/{place} {mark.replace('/', chr(0x2215))}.png" for place in range(9)]
    truth, predicted = np.arange(9) % 3, (np.arange(9) + (np.arange(9) % 4 == 0)) % 3
    for place in ("predictions", "snapshots/epoch-00001"):
        (folder / place).mkdir(parents=True)
    with open(folder / "predictions" / "val.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "label", "truth", "confidence", *classes])
        for name, row, column in zip(names, truth, predicted, strict=True):
            shares = [0.8 if place == column else 0.1 for place in range(3)]
            writer.writerow([name, classes[column], classes[row], 0.8, *shares])
    pictures = np.random.default_rng(0).integers(0, 256, (9, 3, 6, 8)).astype(np.uint8)
    wrong, place = np.flatnonzero(truth != predicted), folder / "snapshots"
    features = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float16)
    confidence = np.full(9, 0.8)
    np.savez(place / "epoch-00001" / "features.npz", features=features, predictions=predicted, confidence=confidence)
    np.savez(place / "samples.npz", images=pictures, labels=truth, names=np.array(names), index=np.arange(9))
    np.savez(place / "mistakes.npz", images=pictures[wrong], index=wrong)
    config = resolve(Config(name=mark), {"data.path": f"/data/{mark}", "data.classes": classes})
    (folder / "recipe.yaml").write_text(to_yaml(config), encoding="utf-8")
    counts = {"train": 9, "val": 9}
    provenance = {
        "command": ["sightline", "train", mark], "device": mark, "threads": 1, "precision": "fp32", "parameters": 1,
        "notes": [f"found {mark}"], "git": mark, "warnings": [mark], "versions": {"torch": mark},
        "data": {"path": mark, "classes": classes, "counts": counts, "digest": {"val": "ab"}},
    }  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    common = {"step": 1, "epoch": 1, "seconds": 1.0}
    lines = [
        {"event": "start", "step": 0, "epoch": 0, "seconds": 0.0},
        {"event": "warning", **common, "text": mark},
        {"event": "train", **common, "loss": 1.0, "lr": 0.1, "images_per_second": 1.0, "grad_norm": 1.0},
        {"event": "eval", **common, "split": "val", "loss": 1.0, "accuracy": 0.5, "accuracy_top5": 1.0, "best": True},
        {"event": "stop", **common, "reason": mark},
        {"event": "done", **common, "accuracy": 0.5, "best_epoch": 1},
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return folder


def the_report(folder: Path, mark: str) -> str:
    from sightline.report.page import write_report

    return write_report(write_run(folder / ("run " + mark.replace("/", "\u2215")), mark)).read_text(encoding="utf-8")


def the_comparison(folder: Path, mark: str) -> str:
    from sightline.commands import drawn_report

    runs = [write_run(folder / f"{number} {mark.replace('/', chr(0x2215))}", mark) for number in range(2)]
    return Path(drawn_report(runs[0], runs[1:], folder / "compared", False, True)).read_text(encoding="utf-8")


def the_diagnosis(folder: Path, mark: str) -> str:
    """The doctor's page of data with findings: files that can't be read, copies, and classes by their names."""
    from sightline.doctor import doctor

    name = mark.replace("/", "\u2215")
    for label in range(2):
        place = folder / f"photos {name}" / f"{label} {name}"
        place.mkdir(parents=True)
        for number in range(4):
            scene((12, 12), seed=number + 4 * label).save(place / f"{number} {name}.png")
        scene((12, 12), seed=4 * label).save(place / f"copy {name}.png")
        (place / f"bad {name}.png").write_text(f"<html>{mark}")
    return doctor(folder / f"photos {name}", out=folder / "page.html", quiet=True).page.read_text(encoding="utf-8")


def the_server(folder: Path, mark: str) -> str:
    from sightline.serve.page import page

    return page([mark, f"{mark} 2"], ["classify", "segment"], "http://127.0.0.1:8000/", True, 1000)


PAGES: dict[str, Callable[[Path, str], str]] = {
    "report": the_report,
    "comparison": the_comparison,
    "doctor's page": the_diagnosis,
    "served page": the_server,
}


@contextlib.contextmanager
def without_figures() -> Generator[None]:
    """Figures are pictures, and nearly all of the time; one blank picture stands for each."""
    import base64
    import importlib

    blank = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
    )
    page, drawing = (importlib.import_module(f"sightline.report.{name}") for name in ("page", "drawing"))
    plan = drawing.plan
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(drawing, "plan", lambda *a: dict.fromkeys(plan(*a), lambda: None)))
        for module in (page, drawing):
            real = module.png
            drawn = lambda figure, real=real: blank if figure is None else real(figure)  # noqa: E731
            stack.enter_context(mock.patch.object(module, "png", drawn))
        yield


def check_pages(settings: Settings) -> Outcome:
    """Every page with every payload in every name, against the same page with harmless names."""
    tried, failures = 0, []
    payloads = (TOGETHER,) if settings.short else (*PAYLOADS, TOGETHER)
    with without_figures():
        for kind, render in PAGES.items():
            plain = Parsed(render(_made(settings.folder / kind / "plain"), HARMLESS))
            for number, payload in enumerate(payloads):
                tried += 1
                try:
                    found = Parsed(render(_made(settings.folder / kind / str(number)), payload))
                except Exception as error:
                    failures.append(f"{kind}, {payload!r}: {type(error).__name__}: {error}")
                    continue
                new = found.found - plain.found
                gone = plain.found - found.found
                if new or gone:
                    failures.append(f"{kind}, {payload!r}: new {dict(new)}, gone {dict(gone)}")
                more = Counter(a.partition("=")[0] for a in found.addresses) - Counter(
                    a.partition("=")[0] for a in plain.addresses
                )
                if more or any("evil" in address for address in found.addresses):
                    failures.append(f"{kind}, {payload!r}: leads to {found.addresses[:3]}")
    return Outcome(tried, tuple(failures), {"pages": len(PAGES), "payloads": len(payloads)})


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@contextlib.contextmanager
def unescaped_text() -> Generator[None]:
    """Text that goes into the page as it is."""
    with mock.patch.object(building, "html", SimpleNamespace(escape=lambda text, quote=True: text)):
        yield


@contextlib.contextmanager
def unescaped_attributes() -> Generator[None]:
    """Escaping that forgets quotes."""
    with mock.patch.object(building, "html", SimpleNamespace(escape=lambda text: html.escape(text, quote=False))):
        yield


@contextlib.contextmanager
def plain_json() -> Generator[None]:
    """JSON in a script element as `json.dumps` gives it."""
    from sightline.report import live

    def block(name: str, value: object) -> building.Html:
        return building.Html(f'<script type="application/json" id="{name}">{json.dumps(value)}</script>')

    with mock.patch.object(live, "block", block), mock.patch("sightline.report.page.block", block, create=True):
        yield


# ------------------------------------------------------------------------------------------------ names as paths

PATHS = (
    "../evil", "../../evil", "/evil", "..", ".", "a/../../evil", "..\\evil", "C:\\evil", "\\\\host\\evil", "....//evil",
    "%2e%2e/evil", "~/evil", "$HOME/evil", "-rf", "--out=evil", "a\0b", "evil\n", "con", " ", "a" * 300,
)  # fmt: skip


def check_paths(settings: Settings) -> Outcome:
    """Names as paths: nothing may be written outside of the folder that was named for output."""
    tried, failures = 0, []
    jail = settings.folder / "a" / "b" / "c"
    for number, name in enumerate(PATHS[:7] if settings.short else PATHS):
        place = jail / str(number)
        _made(place / "data")
        for image in range(8):
            scene((12, 12), seed=image).save(place / "data" / f"{image}.png")
            _made(place / "photos" / str(image % 2)) if image < 2 else None
            scene((12, 12), seed=image).save(place / "photos" / str(image % 2) / f"{image}.png")
        before = _all(settings.folder)
        for kind, work in (("class", _classes), ("file of a table", _table), ("recipe", _recipe)):
            tried += 1
            try:
                work(place, name)
            except SightlineError:
                pass
            except Exception as error:
                failures.append(f"{kind} {name[:20]!r}: {type(error).__name__}: {error}")
        outside = [path for path in _all(settings.folder) - before if place not in path.parents]
        failures += [f"{name[:20]!r} wrote {path}" for path in outside]
    return Outcome(tried, tuple(failures))


def _all(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def _classes(place: Path, name: str) -> None:
    """Class names: everything that they go into."""
    with contextlib.suppress(ValueError), without_figures():
        from sightline.report.page import write_report

        write_report(write_run(place / f"run {abs(hash(name))}", name))


def _table(place: Path, name: str) -> None:
    """A table that names files outside of its folder; then what it names may not be read."""
    from sightline.data.sources import open_source

    outside = place.parent.parent / "evil"
    outside.with_suffix(".png").write_bytes(b"")
    table = place / "data" / "labels.csv"
    table.write_text(f'filename,label\n0.png,a\n1.png,b\n2.png,a\n3.png,b\n"{name}.png",a\n', encoding="utf-8")
    outside.with_suffix(".png").unlink()
    open_source(Data(path=str(table)), 0)


def _recipe(place: Path, name: str) -> None:
    """A recipe that calls itself by a path: that is the run folder's default name."""
    import sightline

    path = place / "recipe of a stranger.yaml"
    path.write_text(to_yaml(resolve(Config(), {"name": name})), encoding="utf-8")
    with contextlib.chdir(place), without_figures():
        settings: dict[str, Any] = {
            "data.size": 16,
            "model.name": "small_cnn",
            "train.epochs": 1,
            "data.cache_dir": str(place / "cache"),
        }
        sightline.train(str(path), str(place / "photos"), quiet=True, **settings)


@contextlib.contextmanager
def writes_where_the_name_says() -> Generator[None]:
    """A report that keeps one file a class, called by its name."""
    real = write_run

    def careless(folder: Path, mark: str) -> Path:
        found = real(folder, mark)
        with contextlib.suppress(OSError, ValueError):
            (folder / ".." / mark).resolve().with_suffix(".txt").write_text("")
        return found

    with mock.patch(f"{__name__}.write_run", careless):
        yield


ROWS = (
    Row(
        "markup in names",
        SECTION,
        "names of classes, files, runs, recipes and settings are text on every page: no new element, no address",
        check_pages,
        {
            "text that is not escaped": unescaped_text,
            "attributes whose quotes are not escaped": unescaped_attributes,
        },
    ),
    Row(
        "paths in names",
        SECTION,
        "no name leads out of the folder that was given for output",
        check_paths,
        {"a file called by the class": writes_where_the_name_says},
    ),
)
