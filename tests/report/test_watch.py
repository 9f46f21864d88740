"""The report of a run in progress, served on 127.0.0.1 and updated with the run."""

import http.client
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import sightline
from sightline import SightlineError
from sightline.report.watch import ADDRESS, WatchServer, serve, watching

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def run(make_run: Callable[..., Path], tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", epochs=(1, 2))


@pytest.fixture
def server(run: Path) -> Iterator[WatchServer]:
    with WatchServer(run, 0) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(server: WatchServer, path: str, host: str = "", method: str = "GET") -> tuple[int, str]:
    port = server.server_address[1]
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=60)
    connection.request(method, path, headers={"Host": host or f"{ADDRESS}:{port}"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.mark.slow
def test_the_page_is_rendered_again_when_the_run_has_logged_something(server: WatchServer, run: Path) -> None:
    status, first = ask(server, "/")
    stamp = json.loads(ask(server, "/state")[1])["stamp"]
    assert status == 200 and f'data-watched="{stamp}"' in first and "connect-src &#x27;self&#x27;" in first
    assert ask(server, "/")[1] == first and server.watched.page() is server.watched.page(), "drawn once"
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"event": "eval", "step": 99, "epoch": 7, "seconds": 70, "split": "val", "accuracy": 0.9}\n')
    assert json.loads(ask(server, "/state")[1])["stamp"] != stamp
    second = ask(server, "/")[1]
    assert second != first and "t-SNE" not in second.partition("<script>")[0], "too slow for each epoch"
    assert not (run / "report.html").exists(), "the page that is watched is not that of the folder"


@pytest.mark.parametrize("name", ["predictions/val.csv", "predictions/val-confusion.npz"])
def test_new_predictions_change_the_stamp(server: WatchServer, run: Path, name: str) -> None:
    before = server.watched.stamp()
    (run / name).write_bytes(b"of another epoch")
    assert server.watched.stamp() not in ("", before)


@pytest.mark.slow
def test_the_browser_reloads_the_page_only_when_it_has_changed(
    server: WatchServer, run: Path, browser: "Browser"
) -> None:
    page = browser.new_page()
    page.clock.install()
    page.goto(server.url)
    page.wait_for_selector(".interactive")
    page.evaluate("window.loaded = 'first'")
    for _ in range(2):
        with page.expect_response("**/state"):
            page.clock.fast_forward(2600)
    page.wait_for_timeout(300)
    assert page.evaluate("window.loaded") == "first", "nothing is new"
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"event": "eval", "step": 99, "epoch": 7, "seconds": 70, "split": "val", "accuracy": 0.9}\n')
    with page.expect_navigation():
        page.clock.fast_forward(2600)
    page.wait_for_selector(".interactive")
    assert page.locator("html").get_attribute("data-watched") == server.watched.stamp()
    page.evaluate("window.loaded = 'second'")
    server.shutdown()
    server.server_close()
    with page.expect_event("requestfailed"):
        page.clock.fast_forward(2600)
    page.wait_for_timeout(300)
    assert page.evaluate("window.loaded") == "second", "the last page stays when the run is over"
    page.close()


def test_other_paths_are_not_found(server: WatchServer) -> None:
    for path in ("/report.html", "/../recipe.yaml", "//etc/passwd", "/state/", "/?", "/%2e%2e/recipe.yaml"):
        assert ask(server, path)[0] == 404, path
    assert ask(server, "/", method="POST")[0] == 501
    assert server.server_address[0] == "127.0.0.1"


def test_other_host_names_are_rejected(server: WatchServer) -> None:
    """DNS rebinding: a foreign name that resolves to this machine."""
    port = server.server_address[1]
    for host in (f"evil.example:{port}", ADDRESS, f"{ADDRESS}:1", f"{ADDRESS}:{port}.evil.example"):
        assert ask(server, "/", host)[0] == 403
    assert ask(server, "/state", f"localhost:{port}")[0] == 200


def test_responses_are_not_cached_and_have_their_type(server: WatchServer) -> None:
    connection = http.client.HTTPConnection(ADDRESS, server.server_address[1], timeout=60)
    for path, kind in (("/state", "application/json"), ("/other", "text/plain")):
        connection.request("GET", path)
        with connection.getresponse() as answer:
            assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        connection.close()


def test_a_port_in_use_is_an_error(server: WatchServer, run: Path) -> None:
    with pytest.raises(SightlineError, match="cannot be used") as caught:
        serve(run, server.server_address[1])
    assert "--port" in caught.value.cure
    with pytest.raises(SightlineError, match="one run"):
        sightline.report(run, run, watch=True)


def test_the_page_is_served_before_and_during_a_training_and_not_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    started: list[subprocess.Popen] = []
    start = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **kwargs: started.append(start(*args, **kwargs)) or started[-1]
    )
    with watching(tmp_path / "later", said.append):
        port = int(said[0].rpartition(":")[2].strip("/"))
        connection = http.client.HTTPConnection(ADDRESS, port, timeout=60)
        connection.request("GET", "/")
        text = connection.getresponse().read().decode()
        assert "There is no run in" in text and 'data-watched="waiting"' in text, "it looks again by itself"
        connection.close()
        (process,) = started
        assert os.getsid(process.pid) != os.getsid(0), "Ctrl-C is for the training"
        assert os.getpriority(os.PRIO_PROCESS, process.pid) >= 10, "the training goes first"
    assert process.poll() is not None
    with pytest.raises(ConnectionError):
        http.client.HTTPConnection(ADDRESS, port, timeout=5).request("GET", "/")
