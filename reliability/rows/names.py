"""Markup and paths in every name: of classes, files, runs and recipes, in settings and errors; on pages, and as paths.

A page is rendered twice, with hostile and with harmless names; its elements and attributes must be the same.
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

from reliability import named
from reliability.contract import Outcome, Row, Settings
from reliability.mutants import scene
from reliability.named import PAGES, palette_of, without_figures
from sightline.config.resolve import to_yaml
from sightline.config.schema import Data
from sightline.errors import SightlineError
from sightline.report import html as building
from sightline.tasks.files import configured

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
        if tag != "text":  # a drawing has more or fewer lines of it by how long they are
            self.found[f"{tag} {' '.join(names)}"] += 1
        for name, value in attrs:
            leads = name in ("src", "href", "action", "formaction", "srcset", "data", "xlink:href", "poster")
            if name.startswith("on") or (leads and not (value or "").startswith(("data:image/", "#"))):
                self.addresses.append(f"{tag} {name}={value}")

    @property
    def leading(self) -> Counter[str]:
        """How many addresses there are, by element and attribute."""
        return Counter(address.partition("=")[0] for address in self.addresses)


def steering(text: str) -> str:
    """The characters of a text that a terminal or a reader would obey and not show; newlines may be."""
    return "".join(sorted({letter for letter in text if not letter.isprintable() and letter != "\n"}))


def check_pages(settings: Settings) -> Outcome:
    """Every page with every payload in every name, against the same page with harmless names."""
    tried, failures = 0, []
    payloads = (TOGETHER,) if settings.short else (*PAYLOADS, TOGETHER)
    with without_figures():
        for kind, render in PAGES.items():
            if settings.seen(failures):
                break
            plain = render(_made(settings.folder / kind / "plain"), HARMLESS)
            wanted, marks = Parsed(plain), set(steering(plain))
            for number, payload in enumerate(payloads):
                tried += 1
                try:
                    page = render(_made(settings.folder / kind / str(number)), payload)
                except Exception as error:
                    failures.append(f"{kind}, {payload!r}: {type(error).__name__}: {error}")
                    continue
                failures += [f"{kind}, {payload!r}: {fault}" for fault in differences(wanted, Parsed(page))]
                if more := set(steering(page)) - marks:
                    failures.append(f"{kind}, {payload!r}: holds {sorted(more)!r} as they are")
    return Outcome(tried, tuple(failures), {"pages": len(PAGES), "payloads": len(payloads)})


def differences(plain: Parsed, found: Parsed) -> list[str]:
    """What a page with hostile names has that the one with harmless names has not."""
    new, gone = found.found - plain.found, plain.found - found.found
    faults = [f"new {dict(new)}, gone {dict(gone)}"] if new or gone else []
    if found.leading - plain.leading or any("evil" in address for address in found.addresses):
        faults.append(f"leads to {found.addresses[:3]}")
    return faults


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


# ------------------------------------------------------------------------------------------------ names as paths

PATHS = (
    "../evil", "../../evil", "/evil", "..", ".", "a/../../evil", "..\\evil", "C:\\evil", "\\\\host\\evil", "....//evil",
    "%2e%2e/evil", "~/evil", "$HOME/evil", "-rf", "--out=evil", "a\0b", "evil\n", "con", " ", "a" * 300,
    "x/../../../../evil", "//evil", "evil/..",
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
        for kind, work in WORK.items():
            tried += 1
            try:
                work(place, name)
            except SightlineError:
                pass
            except Exception as error:
                failures.append(f"{kind} {name[:20]!r}: {type(error).__name__}: {error}")
        outside = [path for path in _all(settings.folder) - before if place not in path.parents]
        failures += [f"{name[:20]!r} wrote {path}" for path in outside]
    return Outcome(tried, tuple(failures), {"ways": len(WORK)})


def _all(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def _classes(place: Path, name: str) -> None:
    """Class names: everything that they go into."""
    with contextlib.suppress(ValueError), without_figures():
        from sightline.report.page import write_report

        write_report(named.write_run(place / "run of names", name))


def _table(place: Path, name: str) -> None:
    """A table that names files outside of its folder; then what it names may not be read."""
    from sightline.data.sources.open import open_source

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
    path.write_text(to_yaml(configured({"name": name})), encoding="utf-8")
    with contextlib.chdir(place), without_figures():
        settings: dict[str, Any] = {
            "data.size": 16,
            "model.name": "small_cnn",
            "train.epochs": 1,
            "data.cache_dir": str(place / "cache"),
        }
        sightline.train(str(path), str(place / "photos"), quiet=True, **settings)


def _sweep(place: Path, name: str) -> None:
    """The same of a sweep, which writes into its folder before the first trial."""
    import sightline

    module = importlib.import_module("sightline.sweep")
    recipe = configured({"name": name, "data.path": str(place / "photos"), "model.name": "small_cnn"})
    unrun = mock.patch.multiple(module, TrialScheduler=mock.MagicMock(), finish=lambda *_: None)
    settings: dict[str, Any] = {"optim.lr": "0.1,0.2", "data.size": 16, "data.cache_dir": str(place / "cache")}
    with contextlib.chdir(place), unrun:
        sightline.sweep(recipe, quiet=True, trials=1, **settings)


def _shards(place: Path, name: str) -> None:
    """The names of pictures in a stranger's shards: a segmenter's masks are called by them."""
    import torch

    from sightline.data.shard_format import SampleTable, parse_table, table_bytes
    from sightline.tasks.segment.results import mask_writer

    names = (f"{name}/1_sat.jpg", "b/1_sat.jpg", name, f"{name}.png")
    spans, none = np.arange(4), np.zeros((4, 2), np.int64)
    written = table_bytes(SampleTable(spans, spans + 1, spans, spans, none, none, names))
    found = parse_table(written, str(place), 4).names
    for some in (found, found[:2], found[2:]):
        write = mask_writer(place / "masks", some, palette_of("plain"))
        write(SimpleNamespace(samples=torch.arange(len(some))), np.zeros((len(some), 2, 2), np.uint8))  # ty: ignore[invalid-argument-type]


def _listed(place: Path, name: str) -> None:
    """The names of a list of pictures: masks, of a segmenter and of Segment Anything, are called by them."""
    from sightline.inference.inputs import InputImage
    from sightline.runs.atomic import atomic_write
    from sightline.segment_anything.outputs import plan_images
    from sightline.tasks.segment.predict import mask_jobs

    real = str(place / "data" / "0.png")
    if "\0" in name:  # in no list: a path that is opened cannot hold it
        return
    for job in mask_jobs([InputImage(f"{name}/0.png", real), InputImage(name, real)], place / "masks", 1000):
        atomic_write(job.target, b"")
    with contextlib.chdir(place):
        Path("list.txt").write_bytes(os.fsencode(f"{name}/0.png\ndata/0.png\n"))
        for image in plan_images("list.txt", place / "segments", lambda text: None)[0]:
            atomic_write(image.file("_segments.png"), b"")


WORK: dict[str, Callable[[Path, str], None]] = {
    "class": _classes,
    "file of a table": _table,
    "recipe": _recipe,
    "sweep's recipe": _sweep,
    "picture in a shard": _shards,
    "picture of a list": _listed,
}


@contextlib.contextmanager
def writes_where_the_name_says() -> Generator[None]:
    """A report that keeps one file a class, called by its name."""
    real = named.write_run

    def careless(folder: Path, mark: str, task: str = "classify") -> Path:
        found = real(folder, mark, task)
        with contextlib.suppress(OSError, ValueError):
            (folder / ".." / mark).resolve().with_suffix(".txt").write_text("")
        return found

    with mock.patch.object(named, "write_run", careless):
        yield


@contextlib.contextmanager
def masks_by_any_path() -> Generator[None]:
    """Masks that are called by the whole path of their picture."""
    from pathlib import PurePosixPath

    from sightline.tasks.segment import results

    with mock.patch.object(results, "within", PurePosixPath):
        yield


ROWS = (
    Row(
        "markup in names",
        SECTION,
        "names of classes, files, runs, recipes, layers and settings are text on every page: no new element, no address"
        ", no character that turns or hides others",
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
        {"a file called by the class": writes_where_the_name_says, "masks called by any path": masks_by_any_path},
    ),
)
