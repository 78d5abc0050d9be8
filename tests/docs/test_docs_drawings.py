"""The drawings are those that the script makes, and can be read anywhere."""

import re
import runpy
from xml.etree import ElementTree

import pytest
from docs_pages import DOCS, PAGES, ROOT

DRAWINGS = runpy.run_path(str(ROOT / "scripts" / "drawings.py"))["DRAWINGS"]
FOLDER = DOCS / "_static" / "drawings"
PICTURES = sorted([*FOLDER.glob("*.svg"), *(DOCS / "_static" / "terminal").glob("*.svg")])


def test_folder_has_the_drawings_of_the_script():
    assert {path.stem for path in FOLDER.iterdir()} == set(DRAWINGS)


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawing_is_what_the_script_makes(name):
    assert (FOLDER / f"{name}.svg").read_text() == DRAWINGS[name](), "run scripts/drawings.py"


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawing_has_a_title_a_background_and_no_text_beyond_its_edge(name):
    root = ElementTree.fromstring(DRAWINGS[name]())
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title").text
    assert root.find(f"{space}rect").get("class") == "panel"
    width = float(root.get("width"))
    for text in root.iter(f"{space}text"):
        length = 8 * len(text.text)  # more than any of its fonts takes for a letter on average
        before = {"start": 0, "middle": length / 2, "end": length}[text.get("text-anchor")]
        assert float(text.get("x")) - before > -8
        assert float(text.get("x")) - before + length < width + 8, text.text


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_picture_is_on_a_page_loads_nothing_and_names_no_folder_of_a_machine(path):
    text = path.read_text()
    assert not re.search(r"(href|src|url)[=(]\"?https?:|@font-face", text)
    assert not re.search(r"/(root|work|home)/", text)
    name = path.relative_to(DOCS).as_posix()
    assert any(name in page.read_text() for page in PAGES)


def test_pictures_of_pages_have_words_for_those_who_do_not_see_them():
    for page in PAGES:
        for words, _ in re.findall(r"!\[([^]]*)\]\(([^)]*)\)", page.read_text()):
            assert len(words) > 20
