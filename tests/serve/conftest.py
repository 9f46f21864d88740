"""Runs of a second each, and servers of them on 127.0.0.1 that end with their test."""

import contextlib
import importlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import sightline
from sightline.config.schema import Config
from sightline.serve import bound, serving
from sightline.serve.models import Served, load

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page


@contextlib.contextmanager
def without_reports(place: Path) -> Generator[None]:
    """Runs draw no report, and decode into a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGHTLINE_CACHE", str(place))
        patch.setattr(importlib.import_module("sightline.report.page"), "write_report", lambda run: run)
        yield


@pytest.fixture(scope="session")
def classifier_run(photos: Path, tiny: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of four classes after two epochs."""
    folder = tmp_path_factory.mktemp("serve") / "corners"
    with without_reports(folder.parent / "cache"):
        sightline.train("photos_scratch", photos, out=folder, quiet=True, **tiny)
    return folder


@pytest.fixture(scope="session")
def segmenter_run(
    make_scenes: Callable[..., Path], toy: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A segmenter of land-cover fields after two epochs."""
    place = tmp_path_factory.mktemp("serve")
    with without_reports(place / "cache"):
        sightline.train(toy(), make_scenes(place / "land"), out=place / "fields", quiet=True)
    return place / "fields"


@contextlib.contextmanager
def served(models: Sequence[Served], **options: object) -> Generator[httpx.Client]:
    """A client of a server that runs in a thread."""
    with bound("127.0.0.1", 0) as listening, serving(models, listening, **options) as (server, url):  # ty: ignore[invalid-argument-type]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        until = time.monotonic() + 20
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        try:
            with httpx.Client(base_url=url.partition("?")[0], timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def classifier(classifier_run: Path) -> Served:
    return load(classifier_run, "corners", True, print)


@pytest.fixture(scope="session")
def segmenter(segmenter_run: Path) -> Served:
    return load(segmenter_run, "fields", True, print)


@pytest.fixture(scope="module")
def client(classifier: Served, segmenter: Served) -> Iterator[httpx.Client]:
    """A client of a server of both models."""
    with served([classifier, segmenter]) as one:
        yield one


@contextlib.contextmanager
def pages_of(browser: "Browser", url: str) -> Generator[Callable[..., "Page"]]:
    """open_page(width, **options): the page in a browser; in the end it has made no error and has asked nobody else."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def open_page(width: int = 1280, **options: Any) -> "Page":
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        own = (url, "data:", "blob:")
        page.on("request", lambda asked: faults.append(asked.url) if not asked.url.startswith(own) else None)
        page.goto(url)
        page.wait_for_selector(".reel img")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not [fault for fault in faults if "the server responded with a status of" not in fault]
