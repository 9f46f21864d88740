"""The routes: the page, the models, a picture's answers. No route takes a path or a name; all goes by whole numbers."""

import asyncio
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from pydantic import Field
from starlette.exceptions import HTTPException

from .. import __version__
from ..data.decode.images import image_in, planes, size_in
from ..errors import SightlineError, printable
from .guard import Refused, refusal
from .models import MOST_PIXELS, Served, base64_png, png_bytes
from .points import Pictures
from .words import Embedded, Fault, Found, Point, PointMasks, Refusal, Setup
from .worker import Crowded, Worker

Given = TypeVar("Given")
DECODERS = 2
"""Threads that decode pictures: each may hold a large one."""
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
PICTURE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
        "description": "the bytes of a picture: PNG, JPEG, WebP, BMP, TIFF or GIF",
    }
}
WRONG: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": said}
    for status, said in {
        400: "not a picture, or not one that can be used",
        401: "the token is missing",
        403: "another host or origin",
        413: "too large",
        503: "too much to do; come again after Retry-After seconds",
    }.items()
}

Index = Annotated[int, Field(ge=0)]


@dataclass
class Desk:
    """What the routes work with. page: the HTML. points: Segment Anything, where it is wanted."""

    models: Sequence[Served]
    worker: Worker
    decoders: ThreadPoolExecutor
    page: str
    most_bytes: int
    points: Pictures | None

    async def decoded(self, work: Callable[..., Given], *given: Any) -> Given:
        """`work(*given)` in a thread that decodes."""
        return await asyncio.get_running_loop().run_in_executor(self.decoders, work, *given)

    async def computed(self, kind: object, compute: Callable[[Any], Any], item: Any) -> Any:
        """What the models' thread makes of an item; Refused where too much waits already."""
        try:
            return await asyncio.wrap_future(self.worker.ask(kind, compute, item))
        except Crowded:
            raise Refused(503, "too many requests wait", cure="try again in a second") from None

    async def answer(self, place: int, content: bytes) -> Any:
        """What one model says of a picture."""
        model = self.models[place]
        return await self.computed(place, model.compute, await self.decoded(model.read, content))

    def model(self, place: int) -> Served:
        """The model at a place; Refused where there is none."""
        if place >= len(self.models):
            raise Refused(404, f"there is no model {place}", f"the last is {len(self.models) - 1}")
        return self.models[place]


def build_app(desk: Desk) -> FastAPI:
    """The application, without what stands before it (guard.Guard)."""
    app = FastAPI(title="Sightline", version=__version__, docs_url=None, redoc_url=None, responses=WRONG)
    add_errors(app)
    add_predictions(app, desk)
    add_pictures(app, desk)
    if desk.points is not None:
        add_points(app, desk, desk.points)
    return app


def add_predictions(app: FastAPI, desk: Desk) -> None:
    """The page, the models, and what they say of a picture."""

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return desk.page

    @app.get("/api/models", summary="the models, in the order of their places")
    async def models() -> Setup:
        named = printable(desk.points.name) if desk.points else ""
        described = [model.described() for model in desk.models]
        return Setup(models=described, segment_anything=named, most_bytes=desk.most_bytes)

    @app.post("/api/predict", summary="what the models say of a picture", openapi_extra=PICTURE)
    async def predict(
        request: Request,
        model: Annotated[list[Index], Query(description="places of the models to ask; all if left out")] = [],  # noqa: B006
        preview: Annotated[bool, Query(description="send the picture back as PNG")] = False,
    ) -> Found:
        start, content = time.perf_counter(), await body_of(request)
        places = model or range(len(desk.models))
        for place in places:
            desk.model(place)
        height, width = await desk.decoded(size_in, content)
        shown = await desk.decoded(preview_of, content) if preview else ""
        answers = list(await asyncio.gather(*(desk.answer(place, content) for place in places)))
        seconds = time.perf_counter() - start
        return Found(width=width, height=height, preview=shown, seconds=seconds, answers=answers)


def add_pictures(app: FastAPI, desk: Desk) -> None:
    """Training pictures that are near, and validation pictures to try, by their places."""

    @app.get("/api/models/{model}/training/{picture}.png", response_class=Response, responses=PNG)
    async def training(model: Index, picture: Index) -> Response:
        near = getattr(desk.model(model), "near", None)
        if near is None or picture >= len(near.train.names):
            raise Refused(404, "there is no such training picture")
        return png(await desk.decoded(png_bytes, near.train.images[picture]))

    @app.get("/api/models/{model}/examples/{picture}.png", response_class=Response, responses=PNG)
    async def example(model: Index, picture: Index, side: Annotated[int, Query(ge=0, le=4096)] = 0) -> Response:
        pixels = desk.model(model).examples.pixels
        if picture >= len(pixels):
            raise Refused(404, "there is no such validation picture")
        return png(await desk.decoded(png_bytes, pixels[picture], side))


def add_points(app: FastAPI, desk: Desk, points: Pictures) -> None:
    """Segment Anything: a picture is looked at once, then each point or box is quick."""

    @app.post("/api/segment/pictures", summary="look at a picture", openapi_extra=PICTURE)
    async def look(request: Request) -> Embedded:
        content = await body_of(request)
        pixels = await desk.decoded(pixels_of, content)
        known = await desk.computed("look", points.look, (content, pixels))
        return Embedded(picture=known, width=pixels.shape[2], height=pixels.shape[1])

    @app.post("/api/segment/pictures/{picture}/masks", summary="masks of what is meant")
    async def masks(picture: Annotated[str, Path(pattern="^[0-9a-f]{64}$")], prompt: Point) -> PointMasks:
        if len(prompt.points) != len(prompt.labels) or not (prompt.points or prompt.box):
            raise Refused(400, "a label for each point is needed, and a point or a box")
        found = await desk.computed("masks", points.masks, (picture, prompt))
        if found is None:
            raise Refused(404, "this picture is not known any more", cure="send it again")
        return found


def add_errors(app: FastAPI) -> None:
    """Every error in the same words, and never a traceback in an answer."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, problem: HTTPException) -> Response:
        fault = problem.fault if isinstance(problem, Refused) else Fault(what=str(problem.detail).lower())
        return refusal(problem.status_code, fault)

    @app.exception_handler(SightlineError)
    async def mistaken(request: Request, problem: SightlineError) -> Response:
        what, why, cure = (printable(text) for text in (problem.what, problem.why, problem.cure))
        return refusal(400, Fault(what=what, why=why, cure=cure))

    @app.exception_handler(RequestValidationError)
    async def misspelled(request: Request, problem: RequestValidationError) -> Response:
        first = problem.errors()[0]
        why = printable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        return refusal(400, Fault(what="the request is not understood", why=why, cure="see /openapi.json"))

    @app.exception_handler(Exception)
    async def failed(request: Request, problem: Exception) -> Response:
        mark, told = secrets.token_hex(4), printable("".join(traceback.format_exception(problem)))
        print(f"sightline: fault {mark} in {printable(request.url.path)}\n{told}", file=sys.stderr)
        return refusal(500, Fault(what="this is a fault in Sightline", why=f"the terminal has it as {mark}"))


def pixels_of(content: bytes) -> np.ndarray:
    """A picture at its own size, uint8 [3, H, W]."""
    return planes(image_in(content, MOST_PIXELS))


def preview_of(content: bytes) -> str:
    """A picture as base64 of a PNG."""
    return base64_png(pixels_of(content))


async def body_of(request: Request) -> bytes:
    """The picture that was sent; SightlineError where nothing was."""
    content = await request.body()
    if not content:
        cure = "send the bytes of a picture: curl --data-binary @picture.jpg"
        raise SightlineError("no picture was sent", cure=cure)
    return content


def png(content: bytes) -> Response:
    """A PNG as an answer."""
    return Response(content, media_type="image/png")
