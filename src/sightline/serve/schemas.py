"""Requests and responses of the API as pydantic models, from which /openapi.json is generated."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ClassProbability(BaseModel):
    """A class and its probability."""

    name: str
    probability: float


class Neighbor(BaseModel):
    """A training image whose features are near those of the predicted image."""

    picture: int = Field(description="index in the training split, for /api/models/{model}/training/{picture}.png")
    name: str
    label: str = Field(description="its class; empty if it has none")
    similarity: float = Field(description="cosine similarity of the penultimate features, -1 to 1")


class LabelPrediction(BaseModel):
    """Prediction of a classifier. For a pre-training run, only `near` has values, because it has no classes."""

    kind: Literal["classes"] = "classes"
    model: str
    label: str
    confidence: float
    probabilities: list[ClassProbability] = Field(description="all classes, sorted by decreasing probability")
    near: list[Neighbor]
    note: str = ""


class ClassShare(BaseModel):
    """A class in a predicted mask, and the share of the pixels that have it."""

    name: str
    color: str = Field(description="#rrggbb")
    share: float


class MaskPrediction(BaseModel):
    """Prediction of a segmenter for one image."""

    kind: Literal["mask"] = "mask"
    model: str
    width: int
    height: int
    mask: str = Field(description="base64 of a gray PNG; each pixel is an index into `classes`")
    classes: list[ClassShare]


class PredictResponse(BaseModel):
    """Predictions of the requested models for one image."""

    width: int
    height: int
    preview: str = Field(default="", description="base64 of the image as PNG, if requested")
    seconds: float
    answers: list[LabelPrediction | MaskPrediction]


class IndexProgress(BaseModel):
    """Progress of the index for nearest training images. pictures: number of images. done: number of images whose
    features are computed."""

    pictures: int
    done: int
    note: str = ""


class ExampleInfo(BaseModel):
    """A validation image to try; the image is at /api/models/{model}/examples/{index}.png."""

    name: str
    label: str = Field(default="", description="its true class, if there is one")


class ModelInfo(BaseModel):
    """Description of one served model. classes: their number. near: progress of the index of training images."""

    name: str
    task: str
    classes: int
    near: IndexProgress | None = None
    examples: list[ExampleInfo] = []


class ServerInfo(BaseModel):
    """The served models, and the maximum size of an image file in bytes."""

    models: list[ModelInfo]
    segment_anything: str = Field(description="name of the Segment Anything checkpoint; empty if none is loaded")
    most_bytes: int


class PointPrompt(BaseModel):
    """A prompt for Segment Anything: points and a box on an image."""

    model_config = ConfigDict(extra="forbid")
    points: list[tuple[float, float]] = Field(default=[], max_length=100, description="x, y in pixels")
    labels: list[Literal[0, 1]] = Field(default=[], description="per point: 1 inside the object, 0 outside")
    box: tuple[float, float, float, float] | None = Field(default=None, description="x0, y0, x1, y1")


class EmbeddedImage(BaseModel):
    """An image whose Segment Anything embedding is in the cache. picture: its key, to be sent in requests for masks."""

    picture: str
    width: int
    height: int


class PromptMask(BaseModel):
    """One mask for a prompt, with its predicted IoU and the share of the image's pixels in it."""

    mask: str = Field(description="base64 of a black and white PNG")
    score: float = Field(description="predicted IoU")
    share: float


class PromptMasks(BaseModel):
    """Masks for a prompt, highest score first."""

    masks: list[PromptMask]


class ErrorDetail(BaseModel):
    """Description of an error: what is wrong, why, and what to do."""

    what: str
    why: str = ""
    cure: str = ""


class ErrorResponse(BaseModel):
    """Body of every response whose status is not 200."""

    error: ErrorDetail
