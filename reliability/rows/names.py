"""Markup and paths in the names of classes, files, runs, recipes and settings.

Each page is rendered with hostile and with harmless names; its elements and attributes must be the same.
"""

import contextlib
import html
import importlib
import os
from collections import Counter
from collections.abc import Callable, Generator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from reliability import page_fixtures
from reliability.contract import Outcome, Row, Settings
from reliability.mutations import synthetic_image
from reliability.page_fixtures import PAGES, palette_of, without_figures
from sightline.config.resolve import to_yaml
from sightline.config.schema import Data
from sightline.errors import SightlineError
from sightline.report import html as building
from sightline.tasks.files import config_of

SECTION = "Hostile input"
PAYLOADS = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "' onmouseover='alert(1)",
    "</script><script>alert(1)</script>", "</style><script>alert(1)</script>", "</title><script>alert(1)</script>",
    "<!--", "-->", "]]>", "javascript:alert(1)", "<a href=javascript:alert(1)>x</a>", "<iframe src=//evil.com>",
    "<base href=//evil.com>", "<meta http-equiv=refresh content=0;url=//evil.com>", "<link rel=stylesheet href=//evil>",
    "{{7*7}}", "${alert(1)}", "`alert(1)`", "\u2028alert(1)\u2029", "&lt;script&gt;", "&#60;script&#62;", "a\nb<b>",
    "<details open ontoggle=alert(1)>", "<math><mi xlink:href=data:x>", "url(javascript:alert(1))", "\\u003cscript>",
    "<textarea><script>", "<template><img src=x>", "%3Cscript%3E", "[<b>](javascript:x)", "\x1b[2J<b>", "\u202e<b>",
)  # fmt: skip
COMBINED = "\"'><img src=x onerror=alert(1)></script></title></style><script>alert(1)</script>"
HARMLESS = "a plain name"


class Parsed(HTMLParser):
    """The elements of an HTML page with their attribute names, counted, and attributes that load or link to a URL."""

    def __init__(self, page: str):
        super().__init__()
        self.found: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = sorted(name for name, _ in attrs if name not in ("title", "class"))  # only long texts have a class
        if tag != "text":  # the number of text lines in a drawing depends on their length
            self.found[f"{tag} {' '.join(names)}"] += 1
        for name, value in attrs:
            is_link = name in ("src", "href", "action", "formaction", "srcset", "data", "xlink:href", "poster")
            if name.startswith("on") or (is_link and not (value or "").startswith(("data:image/", "#"))):
                self.addresses.append(f"{tag} {name}={value}")

    @property
    def links(self) -> Counter[str]:
        """The number of URLs by element and attribute."""
        return Counter(address.partition("=")[0] for address in self.addresses)


def control_characters(text: str) -> str:
    """The sorted distinct non-printable characters of a text, except the newline."""
    return "".join(sorted({letter for letter in text if not letter.isprintable() and letter != "\n"}))


def check_pages(settings: Settings) -> Outcome:
    """Render every page with each payload as all names, and compare it with the same page with harmless names."""
    tried, failures = 0, []
    payloads = (COMBINED,) if settings.short else (*PAYLOADS, COMBINED)
    with without_figures():
        for kind, render in PAGES.items():
            if settings.detected(failures):
                break
            plain = render(_created(settings.folder / kind / "plain"), HARMLESS)
            expected, allowed = Parsed(plain), set(control_characters(plain))
            for number, payload in enumerate(payloads):
                tried += 1
                try:
                    page = render(_created(settings.folder / kind / str(number)), payload)
                except Exception as error:
                    failures.append(f"{kind}, {payload!r}: {type(error).__name__}: {error}")
                    continue
                failures += [f"{kind}, {payload!r}: {fault}" for fault in differences(expected, Parsed(page))]
                if more := set(control_characters(page)) - allowed:
                    failures.append(f"{kind}, {payload!r}: contains {sorted(more)!r} unescaped")
    return Outcome(tried, tuple(failures), {"pages": len(PAGES), "payloads": len(payloads)})


def differences(plain: Parsed, found: Parsed) -> list[str]:
    """The differences of elements and links between the page with harmless and the one with hostile names."""
    new, missing = found.found - plain.found, plain.found - found.found
    faults = [f"new {dict(new)}, missing {dict(missing)}"] if new or missing else []
    if found.links - plain.links or any("evil" in address for address in found.addresses):
        faults.append(f"links to {found.addresses[:3]}")
    return faults


def _created(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@contextlib.contextmanager
def unescaped_text() -> Generator[None]:
    """Text is inserted into the page without escaping."""
    with mock.patch.object(building, "html", SimpleNamespace(escape=lambda text, quote=True: text)):
        yield


@contextlib.contextmanager
def unescaped_attributes() -> Generator[None]:
    """Escaping that leaves quotes unescaped."""
    with mock.patch.object(building, "html", SimpleNamespace(escape=lambda text: html.escape(text, quote=False))):
        yield


# ------------------------------------------------------------------------------------------------ names as paths

PATHS = (
    "../evil", "../../evil", "/evil", "..", ".", "a/../../evil", "..\\evil", "C:\\evil", "\\\\host\\evil", "....//evil",
    "%2e%2e/evil", "~/evil", "$HOME/evil", "-rf", "--out=evil", "a\0b", "evil\n", "con", " ", "a" * 300,
    "x/../../../../evil", "//evil", "evil/..",
)  # fmt: skip


def check_paths(settings: Settings) -> Outcome:
    """Use paths as names: no file may be written outside the output folder."""
    tried, failures = 0, []
    parent = settings.folder / "a" / "b" / "c"
    for number, name in enumerate(PATHS[:7] if settings.short else PATHS):
        folder = parent / str(number)
        _created(folder / "data")
        for image in range(8):
            synthetic_image((12, 12), seed=image).save(folder / "data" / f"{image}.png")
            (folder / "photos" / str(image % 2)).mkdir(parents=True, exist_ok=True)
            synthetic_image((12, 12), seed=image).save(folder / "photos" / str(image % 2) / f"{image}.png")
        before = _all(settings.folder)
        for kind, use in USES.items():
            tried += 1
            try:
                use(folder, name)
            except SightlineError:
                pass
            except Exception as error:
                failures.append(f"{kind} {name[:20]!r}: {type(error).__name__}: {error}")
        outside = [path for path in _all(settings.folder) - before if folder not in path.parents]
        failures += [f"{name[:20]!r} wrote {path}" for path in outside]
    return Outcome(tried, tuple(failures), {"uses of names": len(USES)})


def _all(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def _classes(folder: Path, name: str) -> None:
    """Class names, in a run and its report."""
    with contextlib.suppress(ValueError), without_figures():
        from sightline.report.page import write_report

        write_report(page_fixtures.write_run(folder / "run of names", name))


def _table(folder: Path, name: str) -> None:
    """File names in a table that point outside its folder."""
    from sightline.data.sources.open import open_source

    outside = folder.parent.parent / "evil"
    outside.with_suffix(".png").write_bytes(b"")
    table = folder / "data" / "labels.csv"
    table.write_text(f'filename,label\n0.png,a\n1.png,b\n2.png,a\n3.png,b\n"{name}.png",a\n', encoding="utf-8")
    outside.with_suffix(".png").unlink()
    open_source(Data(path=str(table)), 0)


def _recipe(folder: Path, name: str) -> None:
    """The name of a recipe, which is the default name of the run folder."""
    import sightline

    path = folder / "recipe.yaml"
    path.write_text(to_yaml(config_of({"name": name}, str(path))), encoding="utf-8")
    with contextlib.chdir(folder), without_figures():
        settings: dict[str, Any] = {
            "data.size": 16,
            "model.name": "small_cnn",
            "train.epochs": 1,
            "data.cache_dir": str(folder / "cache"),
        }
        sightline.train(str(path), str(folder / "photos"), quiet=True, **settings)


def _sweep(folder: Path, name: str) -> None:
    """The name of a recipe in a sweep, which writes to its folder before the first trial."""
    import sightline

    module = importlib.import_module("sightline.sweep")
    recipe = config_of({"name": name, "data.path": str(folder / "photos"), "model.name": "small_cnn"}, "recipe")
    no_trials = mock.patch.multiple(module, TrialScheduler=mock.MagicMock(), finish=lambda *_: None)
    settings: dict[str, Any] = {"optim.lr": "0.1,0.2", "data.size": 16, "data.cache_dir": str(folder / "cache")}
    with contextlib.chdir(folder), no_trials:
        sightline.sweep(recipe, quiet=True, trials=1, **settings)


def _shards(folder: Path, name: str) -> None:
    """The image names in shards of other programs, from which the names of predicted masks are made."""
    import torch

    from sightline.data.shard_format import SampleTable, parse_table, table_bytes
    from sightline.tasks.segment.results import mask_writer

    names = (f"{name}/1_sat.jpg", "b/1_sat.jpg", name, f"{name}.png")
    spans, none = np.arange(4), np.zeros((4, 2), np.int64)
    written = table_bytes(SampleTable(spans, spans + 1, spans, spans, none, none, names))
    found = parse_table(written, str(folder), 4).names
    for some in (found, found[:2], found[2:]):
        write = mask_writer(folder / "masks", some, palette_of("plain"))
        write(SimpleNamespace(samples=torch.arange(len(some))), np.zeros((len(some), 2, 2), np.uint8))  # ty: ignore[invalid-argument-type]


def _listed(folder: Path, name: str) -> None:
    """The paths in a list of images, from which a segmenter and Segment Anything make the names of masks."""
    from sightline.inference.inputs import InputImage
    from sightline.runs.atomic import atomic_write
    from sightline.segment_anything.outputs import plan_images
    from sightline.tasks.segment.predict import mask_jobs

    real = str(folder / "data" / "0.png")
    if "\0" in name:  # such a path cannot be opened
        return
    for job in mask_jobs([InputImage(f"{name}/0.png", real), InputImage(name, real)], folder / "masks", 1000):
        atomic_write(job.target, b"")
    with contextlib.chdir(folder):
        Path("list.txt").write_bytes(os.fsencode(f"{name}/0.png\ndata/0.png\n"))
        for image in plan_images("list.txt", folder / "segments", lambda text: None)[0]:
            atomic_write(image.file("_segments.png"), b"")


USES: dict[str, Callable[[Path, str], None]] = {
    "class": _classes,
    "file in a table": _table,
    "recipe": _recipe,
    "recipe of a sweep": _sweep,
    "image in a shard": _shards,
    "image in a list": _listed,
}


@contextlib.contextmanager
def file_named_after_class() -> Generator[None]:
    """A report that writes a file named after the class."""
    real = page_fixtures.write_run

    def write_run_with_file(folder: Path, mark: str, task: str = "classify") -> Path:
        found = real(folder, mark, task)
        with contextlib.suppress(OSError, ValueError):
            (folder / ".." / mark).resolve().with_suffix(".txt").write_text("")
        return found

    with mock.patch.object(page_fixtures, "write_run", write_run_with_file):
        yield


@contextlib.contextmanager
def masks_by_any_path() -> Generator[None]:
    """Masks named after the unchecked path of their image."""
    from pathlib import PurePosixPath

    from sightline.tasks.segment import results

    with mock.patch.object(results, "within", PurePosixPath):
        yield


ROWS = (
    Row(
        "markup in names",
        SECTION,
        "names of classes, files, runs, recipes, layers and settings are escaped on every page: no new element, no "
        "link, no control character",
        check_pages,
        {
            "text is not escaped": unescaped_text,
            "quotes in attributes are not escaped": unescaped_attributes,
        },
    ),
    Row(
        "paths in names",
        SECTION,
        "no name leads to a file outside the output folder",
        check_paths,
        {"a file named after the class": file_named_after_class, "masks named after any path": masks_by_any_path},
    ),
)
