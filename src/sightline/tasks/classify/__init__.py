"""Image classification: one label per image."""

from ..contract import Task, lazy
from .config import METRICS, ClassifyConfig

TASK = Task(
    name="classify",
    does="classifies images",
    config=ClassifyConfig,
    metrics=METRICS,
    learns_from="labels",
    predicts="label",
    check=lazy("sightline.tasks.classify.build:check"),
    open=lazy("sightline.tasks.classify.build:open_labeled"),
    seconds_per_image=lazy("sightline.tasks.whole_image.cost:seconds_per_image"),
    build=lazy("sightline.tasks.classify.build:build"),
    losses=lazy("sightline.tasks.classify.losses:losses"),
    preview=lazy("sightline.tasks.classify.results:preview"),
    results=lazy("sightline.tasks.classify.results:results"),
    baselines=lazy("sightline.tasks.classify.results:baselines"),
    evaluate=lazy("sightline.tasks.classify.evaluate:evaluate"),
    report=lazy("sightline.tasks.classify.report:content"),
    comparison=lazy("sightline.tasks.classify.compare:comparison"),
    image_scores=lazy("sightline.tasks.classify.compare:image_scores"),
    predict=lazy("sightline.tasks.classify.predict:predict"),
    prelabel=lazy("sightline.tasks.classify.predict:prelabel"),
    load=lazy("sightline.tasks.classify.predict:load"),
    export=lazy("sightline.tasks.classify.export:ClassifierExport"),
    features=lazy("sightline.tasks.whole_image.frozen:features"),
    held_out_probabilities=lazy("sightline.tasks.whole_image.frozen:held_out_probabilities"),
    serve=lazy("sightline.tasks.classify.serve:served"),
)
