"""Hooks of mkdocs: add the pages that are generated from code and from the Markdown files of the repository's root."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "docs")]

import reference  # noqa: E402 - in this folder

ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "LOG.md": "log.md",
}
"""File of the repository's root -> page of the site."""
LINK = re.compile(r"\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add pages that are no files in docs/."""
    pages = {page: _from_root((ROOT / name).read_text(encoding="utf-8")) for name, page in ROOT_PAGES.items()}
    pages |= {f"reference/{name}.md": text for name, text in reference.pages().items()}
    pages |= {f"notebooks/{path.stem}.md": _from_notebook(path) for path in (ROOT / "docs/notebooks").glob("*.ipynb")}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Change links from docs/ to files of the root: to their page, or to plain text if they have none."""
    depth = page.file.src_uri.count("/")

    def changed(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        climb = "../" * (depth + 1)
        if not target.startswith(climb):
            return match[0]
        name = target.removeprefix(climb)
        return f"]({'../' * depth}{ROOT_PAGES[name]}{anchor})" if name in ROOT_PAGES else f"](#){{title='{name}'}}"

    return LINK.sub(changed, markdown)


def _from_notebook(path: Path) -> str:
    """The cells of a notebook as Markdown, with a link to its file."""
    cells = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        cells.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    return "\n\n".join([cells[0], f"[Download this page as a notebook]({path.name}).", *cells[1:]])


def _from_root(text: str) -> str:
    """The text of a page of the root, with links that are relative to docs/."""
    text = re.sub(r"\]\(docs/", "](", text).replace('src="docs/', 'src="')
    for name, page in ROOT_PAGES.items():
        text = re.sub(rf"\]\({re.escape(name)}(#[^)]*)?\)", rf"]({page}\1)", text)
    return re.sub(r"\[([^\]]+)\]\((?:LICENSE|src/|tests/|benchmarks/)[^)]*\)", r"\1", text)
