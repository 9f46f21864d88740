"""Self-supervised pre-training: train a backbone without labels."""

from ..contract import Metric, Task, lazy
from .config import PretrainConfig, upgrade

TASK = Task(
    name="pretrain",
    does="pre-trains without labels",
    config=PretrainConfig,
    metrics={
        "knn_accuracy": Metric(
            "k-NN accuracy",
            meaning="Share of the labeled validation images whose class wins among the nearest labeled training "
            "images by features.",
        )
    },
    learns_from="nothing",
    predicts="features",
    check=lazy("sightline.tasks.pretrain.build:check"),
    open=lazy("sightline.tasks.pretrain.build:open_without_leaks"),
    build=lazy("sightline.tasks.pretrain.build:build"),
    preview=lazy("sightline.tasks.pretrain.results:preview"),
    results=lazy("sightline.tasks.pretrain.results:results"),
    baselines=lazy("sightline.tasks.pretrain.results:baselines"),
    evaluate=lazy("sightline.tasks.pretrain.evaluate:evaluate"),
    report=lazy("sightline.tasks.pretrain.report:content"),
    comparison=lazy("sightline.tasks.pretrain.compare:comparison"),
    predict=lazy("sightline.tasks.pretrain.predict:predict"),
    load=lazy("sightline.tasks.pretrain.predict:load"),
    serve=lazy("sightline.tasks.pretrain.serve:served"),
    former_names=("byol",),
    upgrade=upgrade,
    evaluated=lazy("sightline.tasks.pretrain.probe:evaluated_source"),
    selects_epochs=False,
    probe_setting="pretrain.probe",
    unsupported={
        "export": (
            "a pre-training run has no classes to predict",
            "first train a classifier from its weights: sightline train RECIPE --data DATA --model.weights RUN",
        )
    },
)
