"""The report of a run: one self-contained HTML page, and its figures as files."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SightlineError, counted
from ..insight.curves import History, number
from ..runs.atomic import atomic_write
from ..tasks import task_named
from ..tasks.contract import Metric
from . import origin
from .architecture import architecture
from .formatting import percent
from .html import Child, Html, element, slug, table, typeset
from .run import RunFiles, read_run
from .sections import channels_note, preview

ASSETS = Path(__file__).parent / "assets"
SIZE = Html('<span id="size"></span>')  # replaced by the size of the page


LOOKS = (
    "A look is an evaluation, prediction or score of the images of one test "
    "set, counted over all runs on this machine. If a model is chosen by such results, they are not unbiased."
)


def write_report(run: str | Path) -> Path:
    """Write figures/*.png, figures/architecture.svg and report.html to the run folder `run`; returns the page's path.

    The output depends only on the files in the folder. The page lists missing files. Raises SightlineError if `run` is
    not a run folder.
    """
    text, figures = render(run)
    for name, data in figures.items():
        atomic_write(Path(run) / "figures" / name, data)
    return atomic_write(Path(run) / "report.html", text)


def render(run: str | Path, watched: str = "") -> tuple[str, dict[str, bytes]]:
    """Render the report; returns (the HTML page, its figures by file name).

    watched: "" for a page that is written to a file. For a page that is served during training, the state of the run's
    files, see `watch.WatchedRun.stamp`; such a page polls the server for a newer state, and has no t-SNE, which takes
    seconds per epoch.
    """
    files = read_run(run)
    task = task_named(files.recipe.get("task"), str(files.path))
    content = task.report(files, task.metrics, bool(watched))
    sections = [*content.sections]
    if note := channels_note(files):
        (title, parts), *others = sections
        sections = [(title, [*parts, element("p", note, class_="small")]), *others]
    if files.evaluations:
        sections.append(("Evaluations", evaluations(files, task.metrics)))
    if files.preview:
        sections.append(("Augmented training images", preview({"preview": files.preview})))
    blocks, drawing = architecture(files)
    sections.append(("Architecture", blocks))
    images = {f"{name}.png": data for name, data in content.figures.items()}
    if drawing:
        images["architecture.svg"] = drawing.encode()
    return page(content.files, content.past, sections, watched, content.shown), images


def evaluations(files: RunFiles, metrics: Mapping[str, Metric]) -> list[Child]:
    """Section: results on other splits and data, with the task's first known metric and the looks at each test set."""
    rows: list[list[Child]] = []
    for one in files.evaluations:
        key = next((key for key in metrics if key in one), "")
        look, runs = number(one.get("look")), number(one.get("look_runs"))
        looks = f"look {look:,.0f}" + (f", from {counted(int(runs), 'run')}" if runs > 0 else " of this run")
        images = f" ({number(one['images']):,.0f} images)" if number(one.get("images")) > 0 else ""
        result = result_text(metrics[key], one[key], one.get(f"{key}_interval")) if key else "unknown"
        where = f"{one.get('split')} of {one.get('path')}{images}"
        rows.append([where, looks if look > 0 else "not counted", typeset(result)])
    head = ["Split and data", "Looks at these images", "Result [95% interval]"]
    return [table(head, rows, "Evaluations"), element("p", LOOKS, class_="small")]


def result_text(metric: Metric, value: object, interval: object) -> str:
    """A metric with its interval as text: `Accuracy 91.20% [89.10%, 93.00%]`."""
    edges = [number(edge) for edge in interval] if isinstance(interval, list) else []
    if not np.isfinite(number(value)):
        return f"{metric.title} not defined"
    texts = [f"{percent(edge, 2)}%" if metric.percent else f"{edge:.4g}" for edge in (number(value), *edges)]
    known_edges = len(edges) == 2 and np.isfinite(edges).all()
    return f"{metric.title} {texts[0]}" + (f" [{texts[1]}, {texts[2]}]" if known_edges else "")


def page(
    files: RunFiles, past: History, content: list[tuple[str, list[Child]]], watched: str = "", shown: str = ""
) -> str:
    """The complete page of a run.

    content: (title, HTML elements) of each section. watched: "" or the state of a run during training, see `render`.
    shown: a sentence on the number of images on the page, or "".
    """
    name, folder = str(files.recipe.get("name") or files.path.resolve().name), files.path.resolve().name
    content = [
        *content,
        ("How it was made", origin.recipe(files, origin.flat(defaults_of(files.recipe)))),
        ("Provenance", origin.provenance(files)),
    ]
    small = folder if folder != name else ""
    return layout("Sightline report", name, small, content, notice(files, past), watched, shown)


def layout(
    kicker: str,
    name: str,
    small: str,
    content: list[tuple[str, list[Child]]],
    notice: Html | None = None,
    watched: str = "",
    shown: str = "",
) -> str:
    """A page of titled sections with a table of contents.

    kicker, name, small: the lines of the header. content: (title, HTML elements) of each section. notice: a box above
    the sections. watched: "" or the state of a run during training, see `render`. shown: a sentence on the number of
    images on the page, for its last line, or "".
    """
    links = [element("li", element("a", title, href=f"#{slug(title)}")) for title, _ in content]
    body = element(
        "body",
        element("a", "Skip to the report", href=f"#{slug(content[0][0])}", class_="skip"),
        element("header", element("p", kicker, class_="kicker"), element("h1", name),
                element("p", small, class_="small") if small else None),
        element("div",
                element("nav", element("ul", links), aria_label="Contents"),
                element("main", notice,
                        [element("section", element("h2", title), parts, id=slug(title)) for title, parts in content],
                        element("p", "This page has ", SIZE, f". {shown}".rstrip(), class_="small")),
                class_="columns"),
        element("script", asset("report.js")),
    )  # fmt: skip
    text = f"<!doctype html>\n{element('html', head(name, watched), body, lang='en', data_watched=watched or None)}\n"
    return text.replace(SIZE, f"{len(text.encode()) / 1e6:.1f} MB")


def notice(files: RunFiles, past: History) -> Html | None:
    """A box with the missing files, and how to resume an unfinished run; None if nothing is missing."""
    parts: list[Child] = []
    if files.recipe and not past.finished and (files.records or not files.predictions):
        old = " The predictions below are from before it was resumed." if files.predictions else ""
        cure = element("code", "sightline resume RUN")
        parts.append(element("p", f"This run is not finished.{old} If it was interrupted, ", cure,
                            " continues it; RUN is its folder."))  # fmt: skip
    if files.missing:
        parts.append(
            element("p", "These files are missing in the run folder, or cannot be read, so this report lacks them:")
        )
        parts.append(element("ul", [element("li", line) for line in files.missing]))
    return element("aside", parts, class_="notice") if parts else None


def head(name: str, watched: str = "") -> Html:
    """The <head> of the page: title, style sheet, and a content security policy that blocks all external content."""
    style = Html(asset("uplot.css") + asset("style.css"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{digest(style)}'; script-src '{digest(asset('report.js'))}'; "
        "base-uri 'none'; form-action 'none'" + ("; connect-src 'self'" if watched else "")
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{name}: Sightline report"),
        element("style", style),
    )


def asset(name: str) -> Html:
    """The text of a file in report/assets, which is inserted into the page without escaping."""
    return Html((ASSETS / name).read_text(encoding="utf-8"))


def digest(text: str) -> str:
    """The SHA-256 by which a content security policy allows an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def defaults_of(recipe: dict[str, Any]) -> dict[str, Any]:
    """The default settings of the task that a recipe names; {} for an unknown task."""
    try:
        return task_named(recipe.get("task")).config().model_dump(mode="json")
    except SightlineError:
        return {}
