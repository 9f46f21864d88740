"""Semantic segmentation: one class per pixel."""

from ..contract import Task, lazy
from .config import METRICS, SegmentConfig

TASK = Task(
    name="segment",
    does="segments images",
    config=SegmentConfig,
    metrics=METRICS,
    learns_from="masks",
    predicts="mask",
    check=lazy("sightline.tasks.segment.build:check"),
    open=lazy("sightline.tasks.segment.build:open_source"),
    build=lazy("sightline.tasks.segment.build:build"),
    seconds_per_image=lazy("sightline.tasks.segment.build:seconds_per_image"),
    losses=lazy("sightline.tasks.segment.losses:losses"),
    preview=lazy("sightline.tasks.segment.results:preview"),
    results=lazy("sightline.tasks.segment.results:results"),
    baselines=lazy("sightline.tasks.segment.results:baselines"),
    evaluate=lazy("sightline.tasks.segment.evaluate:evaluate"),
    report=lazy("sightline.tasks.segment.report:content"),
    comparison=lazy("sightline.tasks.segment.compare:comparison"),
    image_scores=lazy("sightline.tasks.segment.compare:image_scores"),
    predict=lazy("sightline.tasks.segment.predict:predict"),
    prelabel=lazy("sightline.tasks.segment.load:prelabel"),
    load=lazy("sightline.tasks.segment.load:load"),
    export=lazy("sightline.tasks.segment.export:SegmenterExport"),
    serve=lazy("sightline.tasks.segment.serve:served"),
    load_masks=lazy("sightline.tasks.segment.evaluate:load_segmenter"),
)
