"""Classification of images that have any number of labels."""

from ..contract import Task, lazy
from .config import METRICS, MultilabelConfig

TASK = Task(
    name="multilabel",
    does="finds all labels of images",
    config=MultilabelConfig,
    metrics=METRICS,
    learns_from="label sets",
    predicts="labels",
    check=lazy("sightline.tasks.multilabel.build:check"),
    open=lazy("sightline.tasks.multilabel.build:open_label_sets"),
    seconds_per_image=lazy("sightline.tasks.whole_image.cost:seconds_per_image"),
    build=lazy("sightline.tasks.multilabel.build:build"),
    losses=lazy("sightline.tasks.multilabel.losses:losses"),
    preview=lazy("sightline.tasks.multilabel.results:preview"),
    results=lazy("sightline.tasks.multilabel.results:results"),
    baselines=lazy("sightline.tasks.multilabel.results:baselines"),
    evaluate=lazy("sightline.tasks.multilabel.evaluate:evaluate"),
    report=lazy("sightline.tasks.multilabel.report:content"),
    comparison=lazy("sightline.tasks.multilabel.compare:comparison"),
    predict=lazy("sightline.tasks.multilabel.predict:predict"),
    prelabel=lazy("sightline.tasks.multilabel.predict:prelabel"),
    load=lazy("sightline.tasks.multilabel.predict:load"),
    export=lazy("sightline.tasks.multilabel.export:MultilabelExport"),
    serve=lazy("sightline.tasks.multilabel.predict:served"),
    features=lazy("sightline.tasks.whole_image.frozen:features"),
    check_labels=lazy("sightline.tasks.multilabel.labels:check_labels"),
)
