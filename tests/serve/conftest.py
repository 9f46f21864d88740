"""Small trained runs, and servers of them on 127.0.0.1 that stop after their test."""

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
from sightline.serve import bind, load, serving
from sightline.serve.models import ServedModel

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page


@contextlib.contextmanager
def without_reports(cache: Path) -> Generator[None]:
    """Skip reports, and use a separate cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGHTLINE_CACHE", str(cache))
        patch.setattr(importlib.import_module("sightline.train"), "write_report", lambda run: run)
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
    folder = tmp_path_factory.mktemp("serve")
    with without_reports(folder / "cache"):
        sightline.train(toy(), make_scenes(folder / "land"), out=folder / "fields", quiet=True)
    return folder / "fields"


@contextlib.contextmanager
def served(models: Sequence[ServedModel], **options: object) -> Generator[httpx.Client]:
    """A client of a server that runs in a thread."""
    with bind(0) as listening, serving(models, listening, **options) as (server, url):  # ty: ignore[invalid-argument-type]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        until = time.monotonic() + 20
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def classifier(classifier_run: Path) -> ServedModel:
    said: list[str] = []
    model = load(classifier_run, "corners", True, said.append)
    assert not [line for line in said if "have changed" in line], said
    return model


@pytest.fixture(scope="session")
def segmenter(segmenter_run: Path) -> ServedModel:
    return load(segmenter_run, "fields", True, print)


@pytest.fixture(scope="module")
def client(classifier: ServedModel, segmenter: ServedModel) -> Iterator[httpx.Client]:
    """A client of a server of both models."""
    with served([classifier, segmenter]) as one:
        yield one


@contextlib.contextmanager
def pages_of(browser: "Browser", url: str) -> Generator[Callable[..., "Page"]]:
    """open_page(width, **options) opens the page in a browser; errors and requests to other hosts fail the test."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def open_page(width: int = 1280, **options: Any) -> "Page":
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        own = (url, "data:", "blob:")
        page.on("request", lambda sent: faults.append(sent.url) if not sent.url.startswith(own) else None)
        page.goto(url)
        page.wait_for_selector(".reel img")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not [fault for fault in faults if "the server responded with a status of" not in fault]
