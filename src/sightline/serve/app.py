"""The HTTP routes of the page and the API. In URLs, models and images are addressed by index, never by path or name."""

import asyncio
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from ..data.channels import RGB
from ..data.decode.images import planes, size_in
from ..errors import SightlineError, printable
from ..inference.reading import is_plain_upload, read_upload
from .guard import ApiError, error_response
from .models import MOST_PIXELS, ServedModel, base64_png, png_bytes, tiff_bytes
from .points import EmbeddingCache
from .schemas import EmbeddedImage, ErrorDetail, ErrorResponse, PointPrompt, PredictResponse, PromptMasks, ServerInfo
from .worker import InferenceWorker, QueueFull

Result = TypeVar("Result")
DECODERS = 2
"""Maximum number of images that are decoded at the same time, to limit memory."""
HOSTS = ["127.0.0.1", "localhost"]
IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
        "description": "the bytes of an image file: PNG, JPEG, WebP, BMP, TIFF or GIF",
    }
}
ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": ErrorResponse, "description": "an error"}}
Index = Annotated[int, Field(ge=0)]


@dataclass
class AppState:
    """Shared state of the routes.

    page: the HTML. most_bytes: maximum size of an image file. points: Segment Anything, or None without a checkpoint.
    """

    models: Sequence[ServedModel]
    worker: InferenceWorker
    page: str
    most_bytes: int
    points: EmbeddingCache | None
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(DECODERS))

    async def decoded(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run `work(*arguments)` in a thread; at most DECODERS run at the same time."""
        async with self.decoding:
            return await asyncio.to_thread(work, *arguments)

    async def computed(self, kind: object, compute: Callable[[Any], Any], item: Any) -> Any:
        """Compute an item in the worker thread. Raises ApiError 503 if the queue is full.

        kind: items of the same kind may be computed as one batch. compute: function of a list of items.
        """
        try:
            return await asyncio.wrap_future(self.worker.submit(kind, compute, item))
        except QueueFull:
            raise ApiError(
                503, "the server has too many requests", "its queue is full", "send the request again in a second"
            ) from None

    async def predicted(self, index: int, content: bytes) -> Any:
        """The prediction of one model for the bytes of an image file. Images of the same shape are computed as one
        batch."""
        model = self.models[index]
        pixels = await self.decoded(model.read, content)
        return await self.computed((index, pixels.shape), model.compute, pixels)

    def model(self, index: int) -> ServedModel:
        """The model with this index; raises ApiError 404 if there is none."""
        if index >= len(self.models):
            raise ApiError(404, f"there is no model {index}", f"the indices are 0 to {len(self.models) - 1}")
        return self.models[index]


def build_app(state: AppState) -> FastAPI:
    """Build the application. It must be wrapped in `guard.Guard`, which rejects cross-site requests and large
    bodies."""
    app = FastAPI(title="Sightline", docs_url=None, redoc_url=None, responses=ERRORS)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False)
    add_errors(app)
    add_predictions(app, state)
    add_images(app, state)
    if state.points is not None:
        add_points(app, state, state.points)
    return app


def add_predictions(app: FastAPI, state: AppState) -> None:
    """Add the routes of the page, of the list of models, and of predictions."""

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return state.page

    @app.get("/api/models", summary="the models, in the order of their indices")
    async def models() -> ServerInfo:
        sam = printable(state.points.name) if state.points else ""
        infos = [model.info() for model in state.models]
        return ServerInfo(models=infos, segment_anything=sam, most_bytes=state.most_bytes)

    @app.post("/api/predict", summary="predict an image", openapi_extra=IMAGE_BODY)
    async def predict(
        request: Request,
        model: Annotated[list[Index], Query(description="indices of the models; all if omitted")] = [],  # noqa: B006
        preview: Annotated[bool, Query(description="return the image as PNG")] = False,
    ) -> PredictResponse:
        start, content = time.perf_counter(), await body_of(request)
        indices = model or range(len(state.models))
        for index in indices:
            state.model(index)
        first = state.model(next(iter(indices)))
        if is_plain_upload(content, first.channels):
            height, width = await state.decoded(size_in, content)
            encoded = await state.decoded(lambda: base64_png(pixels_of(content))) if preview else ""
        else:
            pixels = await state.decoded(first.pixels, content)
            height, width = pixels.shape[1:]
            encoded = base64_png(first.channels.composite(pixels)) if preview else ""
        answers = list(await asyncio.gather(*(state.predicted(index, content) for index in indices)))
        seconds = time.perf_counter() - start
        return PredictResponse(width=width, height=height, preview=encoded, seconds=seconds, answers=answers)


def add_images(app: FastAPI, state: AppState) -> None:
    """Add the routes that return training images, and validation images to try, as PNG."""

    @app.get("/api/models/{model}/training/{picture}.png", response_class=Response)
    async def training(model: Index, picture: Index) -> Response:
        index = state.model(model).neighbors
        if index is None or picture >= len(index.train.names):
            raise ApiError(404, "there is no such training image")
        pixels = index.train.channels.composite(index.train.images[picture])
        return Response(await state.decoded(png_bytes, pixels), media_type="image/png")

    @app.get("/api/models/{model}/examples/{picture}.png", response_class=Response)
    async def example(model: Index, picture: Index, side: Annotated[int, Query(ge=0, le=4096)] = 0) -> Response:
        pixels, channels = state.model(model).examples.pixels, state.model(model).channels
        if picture >= len(pixels):
            raise ApiError(404, "there is no such validation image")
        if not side and not channels.plain:  # the page sends it back to be predicted
            return Response(await state.decoded(tiff_bytes, pixels[picture], channels), media_type="image/tiff")
        shown = channels.composite(pixels[picture])
        return Response(await state.decoded(png_bytes, shown, side), media_type="image/png")


def add_points(app: FastAPI, state: AppState, points: EmbeddingCache) -> None:
    """Add the routes of Segment Anything: embed an image, then compute masks for points and boxes on it.

    Each request has a kind of its own, because an invalid prompt would fail all requests of its batch, and because
    batches are not faster here."""

    @app.post("/api/segment/pictures", summary="embed an image", openapi_extra=IMAGE_BODY)
    async def embed(request: Request) -> EmbeddedImage:
        content = await body_of(request)
        pixels = await state.decoded(pixels_of, content)
        key = await state.computed(object(), points.embed, (content, pixels))
        return EmbeddedImage(picture=key, width=pixels.shape[2], height=pixels.shape[1])

    @app.post("/api/segment/pictures/{picture}/masks", summary="masks for points and a box")
    async def masks(picture: Annotated[str, Path(pattern="^[0-9a-f]{64}$")], prompt: PointPrompt) -> PromptMasks:
        if len(prompt.points) != len(prompt.labels) or not (prompt.points or prompt.box):
            raise ApiError(400, "the prompt needs a point or a box, and a label for each point")
        found = await state.computed(object(), points.masks, (picture, prompt))
        if found is None:
            raise ApiError(404, "the image is not in the cache of the server", cure="send the image again")
        return found


def add_errors(app: FastAPI) -> None:
    """Add error handlers: every error is returned as an `ErrorResponse`, without a traceback."""

    @app.exception_handler(HTTPException)
    async def rejected(request: Request, error: HTTPException) -> Response:
        detail = error.description if isinstance(error, ApiError) else ErrorDetail(what=str(error.detail).lower())
        return error_response(error.status_code, detail)

    @app.exception_handler(SightlineError)
    async def mistake(request: Request, error: SightlineError) -> Response:
        what, why, cure = (printable(text) for text in (error.what, error.why, error.cure))
        return error_response(400, ErrorDetail(what=what, why=why, cure=cure))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        why = printable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        return error_response(
            400,
            ErrorDetail(
                what="the request is invalid",
                why=why,
                cure="correct the request; all requests are described in /openapi.json",
            ),
        )

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # the client has disconnected

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        code, trace = secrets.token_hex(4), printable("".join(traceback.format_exception(error)))
        print(f"sightline: error {code} in {printable(request.url.path)}\n{trace}", file=sys.stderr)
        why = f"the server's terminal shows the traceback of error {code}"
        return error_response(500, ErrorDetail(what="this is a bug in Sightline", why=why))


def pixels_of(content: bytes) -> np.ndarray:
    """Decode an image file without resizing, uint8 [3, h, w]."""
    return planes(read_upload(content, RGB, MOST_PIXELS))


async def body_of(request: Request) -> bytes:
    """The body of a request; raises ApiError 400 if it is empty."""
    content = await request.body()
    if not content:
        raise ApiError(400, "the request has no body", cure="send an image file: curl --data-binary @image.jpg")
    return content
