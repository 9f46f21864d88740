"""Points and boxes with a tiny Segment Anything checkpoint, through the API and on the page."""

import base64
import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from raster_toys import random_pixels, write_raster
from sam_toys import write_sam
from sightline.data.decode.images import open_image, planes
from sightline.segment_anything.model import Sam, load_sam
from sightline.serve import points
from sightline.serve.models import ServedClassifier
from sightline.serve.points import EmbeddingCache

from .conftest import pages_of, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Sam:
    return load_sam(str(write_sam(tmp_path_factory.mktemp("sam") / "tiny")))


@pytest.fixture(scope="module")
def client(classifier: ServedClassifier, sam: Sam) -> Iterator[httpx.Client]:
    with served([classifier], points=EmbeddingCache(sam)) as one:
        yield one


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of 60 x 40 pixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (5, 6, 3)).astype(np.uint8).repeat(8, 0).repeat(10, 1)
    target = tmp_path_factory.mktemp("picture") / "field.png"
    Image.fromarray(pixels).save(target)
    return target


def test_masks_equal_those_of_the_model(client: httpx.Client, sam: Sam, path: Path) -> None:
    embedded = client.post("/api/segment/pictures", content=path.read_bytes()).json()
    assert (embedded["width"], embedded["height"]) == (60, 40) and len(embedded["picture"]) == 64
    address = f"/api/segment/pictures/{embedded['picture']}/masks"
    expected = sam.embed(planes(open_image(str(path), 10**6)))
    for prompt in (
        {"points": [[20, 10]], "labels": [1]},
        {"points": [[20, 10], [50, 30]], "labels": [1, 0]},
        {"points": [], "labels": [], "box": [5, 5, 40, 30]},
    ):
        found = client.post(address, json=prompt).json()["masks"]
        masks, scores = sam.predict_masks(expected, prompt["points"], prompt["labels"], prompt.get("box"))  # ty: ignore[invalid-argument-type]
        assert [one["score"] for one in found] == pytest.approx(scores.tolist(), abs=1e-4) and len(found) == len(masks)
        for one, mask in zip(found, masks, strict=True):
            shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(one["mask"]))))
            assert ((shown == 255) == mask).all() and one["share"] == pytest.approx(mask.mean())


@pytest.mark.parametrize(
    "prompt",
    [
        {"points": [[1, 1]], "labels": []},
        {},
        {"points": [[1, 1]], "labels": [2]},
        {"points": [["x", 1]], "labels": [1]},
        {"points": [[1, 1]] * 101, "labels": [1] * 101},
        {"box": [30, 30, 10, 10]},
        {"points": [[500, 10]], "labels": [1]},
        {"else": 1},
    ],
)
def test_invalid_prompts_are_rejected(client: httpx.Client, path: Path, prompt: dict) -> None:
    known = client.post("/api/segment/pictures", content=path.read_bytes()).json()["picture"]
    found = client.post(f"/api/segment/pictures/{known}/masks", json=prompt)
    assert found.status_code == 400 and found.json()["error"]["what"]


def test_an_invalid_prompt_does_not_fail_the_requests_of_others(
    client: httpx.Client, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = client.post("/api/segment/pictures", content=path.read_bytes()).json()["picture"]
    compute, started, released = EmbeddingCache.masks, threading.Event(), threading.Event()

    def blocking(self: EmbeddingCache, prompts: Any) -> Any:
        started.set()
        assert released.wait(10)
        return compute(self, prompts)

    def ask(x: int) -> int:
        prompt = {"points": [[x, 10]], "labels": [1]}
        return client.post(f"/api/segment/pictures/{known}/masks", json=prompt).status_code

    monkeypatch.setattr(EmbeddingCache, "masks", blocking)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask, 1)
        assert started.wait(10)
        others = [pool.submit(ask, x) for x in (2, 500, 3)]  # the image has 60 columns
        time.sleep(0.5)  # until all three are in the queue
        released.set()
        assert [request.result() for request in (first, *others)] == [200, 200, 400, 200]


def test_an_image_with_16_bits_is_refused(client: httpx.Client, tmp_path: Path) -> None:
    deep = write_raster(tmp_path / "deep.tif", random_pixels(0, (3, 40, 60)))
    found = client.post("/api/segment/pictures", content=deep.read_bytes())
    assert found.status_code == 400 and "of 16 bits, and the model was trained on 8-bit" in found.json()["error"]["why"]


def test_an_image_that_is_not_cached_is_status_404(client: httpx.Client) -> None:
    for name, status in (("0" * 64, 404), ("../" * 20, 404), ("0" * 63, 400)):
        found = client.post(f"/api/segment/pictures/{name}/masks", json={"points": [[1, 1]], "labels": [1]})
        assert found.status_code == status


def test_the_least_recently_used_embedding_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "KEPT", 2)
    embedded: list[int] = []

    class CountingSam:
        name = "counting"

        def embed(self, image: np.ndarray) -> int:
            embedded.append(int(image[0, 0, 0]))
            return embedded[-1]

    cache = EmbeddingCache(CountingSam())  # ty: ignore[invalid-argument-type]
    images = [(bytes([number]), np.full((3, 2, 2), number, np.uint8)) for number in range(3)]
    keys = cache.embed(images[:2])
    assert cache.embed(images[:1]) == keys[:1] and embedded == [0, 1], "a cached image is not embedded again"
    cache.embed(images[2:])
    assert len(cache.embeddings) == 2 and keys[1] not in cache.embeddings


def test_a_click_and_a_box_on_the_page(browser: "Browser", client: httpx.Client, path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with pages_of(browser, str(client.base_url)) as open_page:
        page = open_page()
        page.locator("#file").set_input_files(path)
        card = page.get_by_role("region", name="Segment Anything")
        canvas = card.locator("canvas")
        sync_api.expect(canvas).to_be_visible()
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box
        requests = []
        page.on(
            "request",
            lambda request: requests.append((request.url, request.post_data_json)) if "/masks" in request.url else None,
        )
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
        sync_api.expect(card.locator("p.numbers")).to_contain_text("of the image")
        prompt = requests[-1][1]
        assert prompt["labels"] == [1] and prompt["points"][0] == pytest.approx([30, 10], abs=0.5)
        card.get_by_role("button", name="Outside").click()
        page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
        page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.5 * box["height"])
        page.mouse.up()
        page.wait_for_timeout(500)
        prompt = requests[-1][1]
        assert prompt["labels"] == [1, 0] and prompt["box"] == pytest.approx([6, 4, 54, 20], abs=0.5)
        with page.expect_download() as saved:
            card.get_by_role("button", name="Save the mask").click()
        with Image.open(saved.value.path()) as mask:
            assert mask.size == (60, 40)
        card.get_by_role("button", name="Clear").click()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
        page.wait_for_timeout(300)
        assert requests[-1][1]["points"][0] == pytest.approx([30, 10], abs=0.5) and len(requests[-1][1]["points"]) == 1
