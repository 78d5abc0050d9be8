"""Docstrings have only sections that the API page renders: others become broken definition lists there."""

import ast
import itertools
import re

import pytest
from docs_pages import ROOT

SECTIONS = {
    "Args",
    "Attributes",
    "Raises",
    "Required",
    "Decoupled",
    "Optional",
    "Returns",
    "Source",
    "Sync",
    "Yields",
}


def documented():
    """Every class and function of the library, with its docstring."""
    for path in sorted((ROOT / "src" / "kindaware").glob("**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                docstring = ast.get_docstring(node)
                if docstring:
                    yield f"{path.relative_to(ROOT)}:{node.name}", docstring


def sections_of(docstring):
    """Lines that end with a colon and have indented lines below them, as a section's title has."""
    lines = docstring.splitlines()
    for line, following in itertools.pairwise(lines):
        if re.fullmatch(r"\S.*:", line) and re.match(r" {4}\S+.*:", following):
            yield line[:-1]


def test_docstrings_have_sections_that_are_rendered_as_such():
    found = [(name, section) for name, text in documented() for section in sections_of(text)]
    assert len(found) > 100
    assert [(name, section) for name, section in found if section not in SECTIONS] == []


@pytest.mark.parametrize("title", ["Raises (on iterating)", "For a decoupled model"])
def test_other_titles_are_noticed(title):
    assert [*sections_of(f"Do it.\n\n{title}:\n    Error: why.\n")] == [title]
