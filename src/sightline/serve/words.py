"""What the server says, as types: they check the answers and become the OpenAPI description."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Said(BaseModel):
    """The base of all: unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid")


class ClassProbability(Said):
    """A class and how likely it is."""

    name: str
    probability: float


class NearPicture(Said):
    """A training picture that is near in feature space."""

    picture: int = Field(description="its place in the training split, for /api/models/{model}/training/{picture}.png")
    name: str
    label: str = Field(description="its class; empty where it has none")
    similarity: float = Field(description="cosine of the features before the last layer, -1 to 1")


class ClassAnswer(Said):
    """What a classifier says; of a pre-training without labels the neighbors alone."""

    kind: Literal["classes"] = "classes"
    model: str
    label: str
    confidence: float
    probabilities: list[ClassProbability] = Field(description="all classes, the likeliest first")
    near: list[NearPicture]
    note: str = ""


class ClassShare(Said):
    """A class of a mask, and how much of the picture it covers."""

    name: str
    color: str = Field(description="#rrggbb")
    share: float


class MaskAnswer(Said):
    """What a segmenter says."""

    kind: Literal["mask"] = "mask"
    model: str
    width: int
    height: int
    mask: str = Field(description="base64 of a gray PNG: each pixel is a place in `classes`")
    classes: list[ClassShare]


class Found(Said):
    """The answers of all models that were asked."""

    width: int
    height: int
    preview: str = Field(default="", description="base64 of a PNG of the picture, where it was asked for")
    seconds: float
    answers: list[ClassAnswer | MaskAnswer]


class NearState(Said):
    """How many training pictures there are to compare with, and how many are known so far."""

    pictures: int
    done: int
    note: str = ""


class Example(Said):
    """A validation picture to try; its pixels are at /api/models/{model}/examples/{place}.png."""

    name: str
    label: str = Field(default="", description="its true class, where there is one")


class Model(Said):
    """One model that answers."""

    name: str
    task: Literal["classify", "byol", "segment"]
    classes: int
    near: NearState | None = None
    examples: list[Example] = []


class Setup(Said):
    """What this server has."""

    models: list[Model]
    segment_anything: str = Field(description="the checkpoint that answers to points; empty where there is none")
    most_bytes: int


class Point(Said):
    """Points and a box on a picture."""

    points: list[tuple[float, float]] = Field(default=[], max_length=100, description="x, y in pixels of the picture")
    labels: list[Literal[0, 1]] = Field(default=[], description="1: belongs to what is meant; 0: does not")
    box: tuple[float, float, float, float] | None = Field(default=None, description="x0, y0, x1, y1")


class Embedded(Said):
    """A picture that Segment Anything has looked at. It is forgotten when some others have come."""

    picture: str
    width: int
    height: int


class PointMask(Said):
    """One mask for the points."""

    mask: str = Field(description="base64 of a black and white PNG")
    score: float = Field(description="the IoU that the model expects of it")
    share: float


class PointMasks(Said):
    """The masks for the points, best first."""

    masks: list[PointMask]


class Fault(Said):
    """What went wrong."""

    what: str
    why: str = ""
    cure: str = ""


class Refusal(Said):
    """The body of every answer that is not 200."""

    error: Fault
