"""The pages of the documentation taken apart: code blocks, tables, links, headings."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_IN_DOCS = sorted(page for page in DOCS.glob("**/*.md") if DOCS / "_build" not in page.parents)
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *_IN_DOCS]
OTHERS_PAGE = "docs/reference/commands/serve.md"
"""Tested with the command that it is about."""

_FENCE = re.compile(r"^(```+)(\S*)[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"\A# (\S+\.(?:py|pbtxt))\n")


def name_of(page):
    return page.relative_to(ROOT).as_posix()


OUR_PAGES = [page for page in PAGES if name_of(page) != OTHERS_PAGE]


@dataclass(frozen=True)
class Block:
    """A fenced code block; `path` is the file that its first line names, if it does."""

    page: str
    line: int
    language: str
    code: str

    @property
    def path(self):
        found = _PATH.match(self.code)
        return found and found.group(1)

    @property
    def id(self):
        return f"{self.page}:{self.line}"


def blocks_of(page, *languages):
    text = page.read_text()
    blocks = [
        Block(name_of(page), text.count("\n", 0, found.start()) + 1, found.group(2), found.group(3))
        for found in _FENCE.finditer(text)
    ]
    return [block for block in blocks if not languages or block.language in languages]


def without_blocks(page):
    return _FENCE.sub("", page.read_text())


def headings_of(page):
    """Anchors as GitHub makes them, and MyST with it."""
    titles = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def table_with(page, first_column):
    """The rows of the table whose first column has this title, as lists of cells."""
    lines = without_blocks(page).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return rows


def code_in(cell):
    return re.findall(r"`([^`]+)`", cell)
