"""Requests and responses of the API as pydantic models, from which /openapi.json is generated."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ClassProbability(BaseModel):
    """A class and its probability."""

    name: str
    probability: float


class Neighbor(BaseModel):
    """A training image near the query in feature space."""

    picture: int = Field(description="index in the training split, for /api/models/{model}/training/{picture}.png")
    name: str
    label: str = Field(description="its class; empty if it has none")
    similarity: float = Field(description="cosine similarity of the penultimate features, -1 to 1")


class LabelPrediction(BaseModel):
    """Prediction of a classifier. A pre-training run has only the neighbors; the other fields are empty."""

    kind: Literal["classes"] = "classes"
    model: str
    label: str
    confidence: float
    probabilities: list[ClassProbability] = Field(description="all classes, sorted by decreasing probability")
    near: list[Neighbor]
    note: str = ""


class ClassShare(BaseModel):
    """A class of a mask and the fraction of pixels assigned to it."""

    name: str
    color: str = Field(description="#rrggbb")
    share: float


class MaskPrediction(BaseModel):
    """Prediction of a segmenter."""

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
    """Progress of the neighbor index: number of training images, and how many have features so far."""

    pictures: int
    done: int
    note: str = ""


class ExampleInfo(BaseModel):
    """A validation image to try; the image is at /api/models/{model}/examples/{index}.png."""

    name: str
    label: str = Field(default="", description="its true class, if there is one")


class ModelInfo(BaseModel):
    """One served model."""

    name: str
    task: str
    classes: int
    near: IndexProgress | None = None
    examples: list[ExampleInfo] = []


class ServerInfo(BaseModel):
    """The served models and the limits."""

    models: list[ModelInfo]
    segment_anything: str = Field(description="name of the Segment Anything checkpoint; empty if none is loaded")
    most_bytes: int


class PointPrompt(BaseModel):
    """Points and a box on an image."""

    model_config = ConfigDict(extra="forbid")
    points: list[tuple[float, float]] = Field(default=[], max_length=100, description="x, y in pixels")
    labels: list[Literal[0, 1]] = Field(default=[], description="per point: 1 inside the object, 0 outside")
    box: tuple[float, float, float, float] | None = Field(default=None, description="x0, y0, x1, y1")


class EmbeddedImage(BaseModel):
    """An image whose Segment Anything embedding is cached. picture: its key, for the request of masks."""

    picture: str
    width: int
    height: int


class PromptMask(BaseModel):
    """One mask for a prompt."""

    mask: str = Field(description="base64 of a black and white PNG")
    score: float = Field(description="predicted IoU")
    share: float


class PromptMasks(BaseModel):
    """Masks for a prompt, best first."""

    masks: list[PromptMask]


class ErrorDetail(BaseModel):
    """Description of an error."""

    what: str
    why: str = ""
    cure: str = ""


class ErrorResponse(BaseModel):
    """Body of every response whose status is not 200."""

    error: ErrorDetail
