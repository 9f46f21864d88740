"""The HTML page of `sightline serve`, with the style sheet of the report, a script, and an example request for
programs."""

from collections.abc import Sequence
from pathlib import Path

from ..report.html import Html, element
from ..report.page import asset, digest

UPLOADS = (
    "Images stay in the memory of this machine. TIFF and PNG files of more than 8 bits or with other channels than RGB "
    "are in a temporary file while they are read."
)
ASSETS = Path(__file__).parent / "assets"


def own_asset(name: str) -> Html:
    """The text of a file in assets/, inserted without escaping."""
    return Html((ASSETS / name).read_text(encoding="utf-8"))


def styles() -> Html:
    """The style sheet of the report and the additions of this page."""
    return Html(asset("style.css") + own_asset("serve.css"))


def policy() -> str:
    """The content security policy of the page: it allows requests to this server only, and data: and blob: URLs for
    images and video."""
    style, script = digest(styles()), digest(own_asset("serve.js"))
    return (
        f"default-src 'none'; img-src 'self' data: blob:; media-src blob:; connect-src 'self'; style-src '{style}'; "
        f"script-src '{script}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def page(names: Sequence[str], returns: Sequence[str], url: str, most_bytes: int, needs: Sequence[str] = ()) -> str:
    """The HTML of the page.

    names: of the models. needs: phrases on the images that they need, if these are not 8-bit RGB. returns: for each
    model, a phrase on the content of its API response. url: of the server. most_bytes: maximum size of an image file.
    """
    title = names[0] if len(names) == 1 else f"{len(names)} models"
    models = "this model" if len(names) == 1 else f"these models: {', '.join(names)}"
    suffix = "tif" if needs else "jpg"
    wanted = f" It needs TIFF files with {' or '.join(needs)}." if needs else ""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),  # otherwise browsers request /favicon.ico
        element("title", f"{title}: Sightline"),
        element("style", styles()),
    )
    body = element(
        "body",
        element("a", "Skip to the image", href="#predict", class_="skip"),
        element("header", element("p", "Sightline", class_="kicker"), element("h1", title),
                element("p", f"Predict an image with {models}.{wanted}", class_="small"),
                element("p", id="progress", class_="small")),
        element("main", element("div", id="predict"), programs(url, most_bytes, returns, suffix), class_="wide"),
        element("script", own_asset("serve.js")),
    )  # fmt: skip
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def programs(url: str, most_bytes: int, returns: Sequence[str], suffix: str) -> Html:
    """Collapsed section with an example request for programs. suffix: of the example's file."""
    line = f"curl --data-binary @image.{suffix} {url}api/predict"
    content = "; ".join(sorted(set(returns)))
    return element(
        "details",
        element("summary", "Use from a program"),
        element("p", f"Response as JSON: {content}. At most {most_bytes / 1e6:g} MB per image."),
        element("pre", element("code", line), tabindex="0", role="region", aria_label="Command"),
        element("p", "All requests and responses: ", element("a", "/openapi.json", href="/openapi.json"), "."),
        element("p", UPLOADS),
        class_="programs",
    )
