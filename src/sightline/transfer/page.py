"""The HTML page of a transfer grid: comparisons, table, what was tried, links to the runs, recipes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import counted
from ..report.formatting import duration, percent
from ..report.html import Child, element, missing_note, table, typeset
from ..report.origin import flat, shown
from ..report.page import layout
from ..report.sections import figure
from ..stats.baselines import TITLES
from .grid import SETTINGS, SPLIT_NAMES, Grid, grid_yaml
from .outcomes import GridResult, SettingResult
from .plan import GridRun, own_pretrainings, runs_of
from .tuning import INNER_FRACTION, settings_text

STAGE_TITLES = {
    "labeled": "Pre-training with labels",
    "unlabeled": "Pre-training without labels",
    "full": "Full model",
    "frozen": "Head only",
}


def grid_page(folder: Path, grid: Grid, result: GridResult, figures: dict[str, bytes]) -> str:
    """Build the HTML page of a transfer grid. figures: PNG bytes by name."""
    content: list[tuple[str, list[Child]]] = [
        ("Does pre-training help?", summary(grid, result, figures)),
        ("How the settings were chosen", choices(grid, result)),
        ("Runs", run_links(folder, grid, result)),
        ("During pre-training", pretraining(figures)),
        ("How it was made", recipes(grid)),
    ]
    return layout("Sightline transfer grid", grid.name, "", content)


def summary(grid: Grid, result: GridResult, figures: dict[str, bytes]) -> list[Child]:
    """Section: one sentence per comparison, the figure, the table of settings, and notes."""
    if not result.outcomes:
        return [missing_note("No run of the grid is finished yet.")]
    sentences = [typeset(f"{one.sentence[0].upper()}{one.sentence[1:]}.") for one in result.comparisons]
    return [
        element("ul", [element("li", sentence) for sentence in sentences], class_="lead"),
        figure(figures, "grid", f"{title(result)} of each setting with its interval of at least 95%"),
        score_table(grid, result),
        untrained(result),
        *[element("p", note, class_="small") for note in remarks(grid, result)],
        *[missing_note(note) for note in result.notes],
    ]


def title(result: GridResult) -> str:
    """The name of the metric as a heading."""
    return result.metric[1][0].upper() + result.metric[1][1:]


def score_table(grid: Grid, result: GridResult) -> Child:
    """Table with one row per setting: its scores, their interval, and k-NN."""
    columns: dict[str, Callable[[SettingResult], str]] = {
        "Setting": setting_text,
        f"{title(result)}, %": lambda one: percent(one.score),
        "Interval (at least 95%)": lambda one: (
            " to ".join(percent(edge) for edge in one.interval) if one.interval else "none"
        ),
        "Each run, %": each_run,
    }
    if any(one.knn is not None for one in result.outcomes):
        columns["k-NN, %"] = lambda one: "" if one.knn is None else percent(float(one.knn.mean()))
    if grid.reported:
        known = grid.reported
        columns["Reported elsewhere, %"] = lambda one: percent(known[one.setting]) if one.setting in known else ""
    rows = [[text(one) for text in columns.values()] for one in result.outcomes]
    return table(list(columns), rows, f"{title(result)} by setting", numeric=1)


def setting_text(outcome: SettingResult) -> str:
    """The letter of a setting, what is trained, and from which pre-training."""
    pretraining, trained = SETTINGS[outcome.setting].description
    start = "no pre-training" if pretraining == "none" else f"pre-trained {pretraining}"
    return f"{outcome.setting}: {trained}, {start}"


def untrained(result: GridResult) -> Child:
    """A paragraph with the scores that need no training; None if the runs have none."""
    if not result.baselines:
        return None
    scores = ", ".join(f"{TITLES[name]} {percent(value)}%" for name, value in result.baselines.items())
    where = "" if result.split == "val" else " on the validation images"
    return element("p", f"Without training{where}: {scores}.", class_="small")


def each_run(outcome: SettingResult) -> str:
    """The scores of the runs in percent; those from different pre-trainings are separated by a bar."""
    return " | ".join(", ".join(percent(value) for value in values) for values in outcome.scores)


def remarks(grid: Grid, result: GridResult) -> list[str]:
    """Sentences on what the numbers are and are not, one paragraph each."""
    images, split = result.outcomes[0].values.shape[2], SPLIT_NAMES[result.split]
    seeds = sorted({len(one.seeds) for one in result.outcomes if one.knn is None}) or [1]
    several = sorted({len(one.pretrainings) for one in result.outcomes if SETTINGS[one.setting].pretraining})
    after = f", from each of {spread(several)} pre-trainings" if several and several[-1] > 1 else ""
    if grid.tune != "none":
        chosen = (
            "Nothing was chosen on these images: settings were chosen on a part of the training images, and each run "
            "keeps the weights of its last epoch."
        )
    elif "epoch" == grid.full.train.best_metric == grid.frozen.train.best_metric:
        chosen = "Each run keeps the weights of its last epoch."
    else:
        where = "these" if result.split == "val" else "the validation"
        chosen = f"The best epoch of each run was selected on {where} images."
    varied = "groups of images" if result.groups else "images"
    varied += ", seeds and pre-trainings" if after else " and seeds" if seeds[-1] > 1 else ""
    once = " Each pre-training was run once: its variation is not in the intervals." if several == [1] else ""
    notes = [
        f"Means over {spread(seeds)} seed{'s' * (seeds != [1])}{after}, on the same {images:,} {split} images. "
        + chosen,
        f"Intervals are over {varied}. Comparisons are "
        f"paired by image; their p and intervals are corrected for {counted(len(result.comparisons), 'comparison')} by "
        f"Bonferroni's method.{once}",
    ]
    if any(SETTINGS[one.setting].training == "frozen" for one in result.outcomes) and not grid.classifies:
        notes.append("The head of a segmenter is its decoder: with a frozen encoder, only the decoder is trained.")
    if any(one.knn is not None for one in result.outcomes):
        notes.append(
            "Frozen backbones are evaluated by their features of images without augmentation: by logistic regression, "
            "which is the accuracy, and by k-nearest neighbors (k = 20, cosine); neither depends on a seed. Full "
            "models are trained with augmentation, so that a comparison of both kinds does not measure the freezing "
            "alone."
        )
    if any(SETTINGS[one.setting].compute_of for one in result.outcomes):
        notes.append(
            "F is A, trained longer: its additional epochs cost as many FLOPs as the pre-training without labels."
        )
    if grid.reported:
        notes.append("The values reported elsewhere were measured on other images.")
    return notes


def spread(counts: list[int]) -> str:
    """The smallest and the largest of sorted counts as text: "3", or "2 to 3"."""
    return " to ".join(str(edge) for edge in dict.fromkeys((counts[0], counts[-1])))


def choices(grid: Grid, result: GridResult) -> list[Child]:
    """Section: how the runs of each setting are trained, and what was tried to choose this."""
    trained: list[list[Child]] = []
    for one in result.outcomes:
        tries = [str(len(one.choice.tried) if one.choice else 0)] if grid.tune != "none" else []
        trained.append([one.setting, one.training, *tries, f"{one.flops:.1e}", duration(one.seconds)])
    head = ["Setting", "Trained with", *(["Tries"] if grid.tune != "none" else []), "FLOPs per run", "Time per run"]
    if grid.tune == "none":
        text = (
            "Nothing was tuned: every setting has the values of the recipe. They may suit one setting better than "
            "another; to choose them for each setting with the same effort: --tune small."
        )
    else:
        text = (
            f"Each setting was tuned on {INNER_FRACTION:.0%} of the training images: the tries were not trained on "
            "them. The final runs are trained on all training images."
        )
    table_of_training = table(head, trained, "Training of each setting", numeric=2)
    return [element("p", text), table_of_training, *tries_made(result)]


def tries_made(result: GridResult) -> list[Child]:
    """Table of the score of each try, with the chosen ones in bold; nothing without tuning."""
    tuned = [(one.setting, one.choice) for one in result.outcomes if one.choice]
    rows: dict[str, dict[str, Child]] = {}
    for letter, choice in tuned:
        for settings, score in choice.tried:
            text = percent(score) if score == score else "diverged"
            cell = element("strong", text) if settings == choice.chosen else text
            rows.setdefault(settings_text(settings), {})[letter] = cell
    edges = [
        f"{letter}: {settings_text({key: choice.chosen[key]})}" for letter, choice in tuned for key in choice.at_edge
    ]
    letters = [letter for letter, _ in tuned]
    body = [[name, *(cells.get(letter, "") for letter in letters)] for name, cells in rows.items()]
    explained = (
        f"{title(result)} of the tries in percent, one run each, from the first pre-training. The highest of each "
        "setting, in bold, decided."
    )
    at_edge = f"At the edge of what was tried, so that values beyond it may be better: {', '.join(edges)}."
    return [
        element("p", explained) if body else None,
        table(["Tried", *letters], body, f"{title(result)} of each try", numeric=1) if body else None,
        element("p", at_edge, class_="small") if edges else None,
    ]


def run_links(folder: Path, grid: Grid, result: GridResult) -> list[Child]:
    """Section: links to the reports of the runs, one line per setting, and the names of unfinished runs."""

    def link(name: str, text: str) -> Child:
        there = (folder / name / "report.html").is_file()
        return element("a", text, href=f"{name}/report.html") if there else f"{text} (not finished)"

    def line(title: str, links: list[tuple[str, str]]) -> Child:
        return element("li", f"{title}:", [[" ", link(name, text)] for name, text in links])

    words = {"labeled": "pre-training with labels", "unlabeled": "pre-training without labels"}
    stages = dict.fromkeys(stage for stage, _ in own_pretrainings(grid))
    lines = [
        line(words[stage], [(f"pretrain-{stage}-{seed}", f"seed {seed}") for seed in grid.pretrain_seeds])
        for stage in stages
    ]
    for setting in grid.settings:
        runs = [(run.name, run_text(run)) for run in runs_of(grid, setting)]
        lines.append(line(setting, runs))
    unfinished = f"Not finished: {', '.join(result.missing)}. Run the same command again to train them."
    return [element("ul", lines), missing_note(unfinished) if result.missing else None]


def run_text(run: GridRun) -> str:
    """The text of the link to a run."""
    return f"seed {run.seed}" if run.pretraining is None else f"seed {run.seed} from pre-training {run.pretraining}"


def pretraining(figures: dict[str, bytes]) -> list[Child]:
    """Section: figure of the k-NN accuracy over the epochs of the pre-training without labels."""
    if "curve-knn-accuracy" not in figures:
        why = "the pre-training without labels has not been evaluated, or has no probe data (pretrain.probe)"
        return [missing_note(f"There is no k-NN accuracy: {why}.")]
    text = "k-NN accuracy of the features on the validation images of the probe data (by default, the target)."
    return [figure(figures, "curve-knn-accuracy", text, text)]


def recipes(grid: Grid) -> list[Child]:
    """Section: table of the settings in which a stage differs from the defaults, and the complete grid.yaml."""
    defaults: dict[str, Any] = {}
    for stage in STAGE_TITLES:
        defaults |= flat(type(getattr(grid, stage))().model_dump(mode="json"))
    stages = {stage: flat(getattr(grid, stage).model_dump(mode="json")) for stage in STAGE_TITLES}
    keys = [
        key for key in defaults if any(values.get(key, defaults[key]) != defaults[key] for values in stages.values())
    ]
    head = ["Setting", *STAGE_TITLES.values(), "Default"]
    rows: list[list[Child]] = [
        [key, *(shown(values[key]) if key in values else "" for values in stages.values()), shown(defaults[key])]
        for key in keys
        if key != "name"
    ]
    seeds = f"Seeds {shown(list(grid.seeds))}; of the pre-trainings {shown(list(grid.pretrain_seeds))}"
    head_of_all = f"; a {grid.classifier} head in every setting" if grid.classifies else ""
    return [
        element("p", f"{seeds}{head_of_all}."),
        table(head, rows, "Settings that differ from the defaults", kind="facts"),
        element("details", element("summary", "All settings"), element("pre", element("code", grid_yaml(grid)))),
    ]
