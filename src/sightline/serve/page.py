"""The page on which models are tried: the report's look, its own script, and how a program asks the same."""

from collections.abc import Sequence
from pathlib import Path

from ..report.html import Child, Html, element
from ..report.page import asset, digest

ASSETS = Path(__file__).parent / "assets"


def own_asset(name: str) -> Html:
    """One of this page's files, which are markup as they stand."""
    return Html((ASSETS / name).read_text(encoding="utf-8"))


def policy() -> str:
    """The content security policy: nothing but this server, and pictures that the browser holds itself."""
    style, script = digest(styles()), digest(own_asset("serve.js"))
    return (
        f"default-src 'none'; img-src 'self' data: blob:; media-src blob:; connect-src 'self'; style-src '{style}'; "
        f"script-src '{script}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def styles() -> Html:
    """The report's style and what this page adds to it."""
    return Html(asset("style.css") + own_asset("serve.css"))


def page(names: Sequence[str], tasks: Sequence[str], url: str, token: bool, most_bytes: int) -> str:
    """The page as HTML. names, tasks: of the models. token: whether a program needs one."""
    title = names[0] if len(names) == 1 else f"{len(names)} models"
    what = "what this model says of a picture" if len(names) == 1 else f"what they say: {', '.join(names)}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),  # else browsers ask for /favicon.ico
        element("title", f"{title}: Sightline"),
        element("style", styles()),
    )
    body = element(
        "body",
        element("a", "Skip to the picture", href="#desk", class_="skip"),
        element("header", element("p", "Sightline", class_="kicker"), element("h1", title),
                element("p", f"Try it: {what}.", class_="small"), element("p", id="progress", class_="small")),
        element("main", element("div", id="desk"), programs(url, token, most_bytes, tasks), class_="wide"),
        element("script", own_asset("serve.js")),
    )  # fmt: skip
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def programs(url: str, token: bool, most_bytes: int, tasks: Sequence[str]) -> Html:
    """How a program asks."""
    header = "-H 'Authorization: Bearer TOKEN' " if token else ""
    line = f"curl {header}--data-binary @picture.jpg {url}api/predict"
    gives = "a mask as a PNG and the share of each class" if "segment" in tasks else "all classes with probabilities"
    says: list[Child] = [
        element("summary", "From a program"),
        element("p", f"The same as JSON: {gives}, of each model. At most {most_bytes / 1e6:g} MB a picture."),
        element("pre", element("code", line), tabindex="0", role="region", aria_label="Command"),
        element("p", "Everything that can be asked: ", element("a", "/openapi.json", href="/openapi.json"), "."),
        element("p", "Pictures stay on this machine: they are answered and forgotten, nothing is written."),
    ]
    return element("details", says, class_="programs")
