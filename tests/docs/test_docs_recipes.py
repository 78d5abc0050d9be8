"""The recipes of CONTRIBUTING.md, followed to the letter."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from docs_pages import ROOT, blocks_of, code_in, table_with, without_blocks

PAGE = ROOT / "CONTRIBUTING.md"
TEXT = re.sub(r"\s+", " ", without_blocks(PAGE))
PACKAGE = ROOT / "src" / "kindaware"
BUILT = {"dist/", "docs/_build/html"}


def find(path):
    """A path as the page writes it: from the root, or from the package."""
    return next((folder / path for folder in (ROOT, PACKAGE) if (folder / path).exists()), None)


@pytest.fixture
def copy(tmp_path):
    """What the recipe changes, and what tests of it read."""
    for folder in ("src", "tests", "docs"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "_build")
        )
    for path in [*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]:
        shutil.copy(path, tmp_path)
    return tmp_path


def apply(diff, folder):
    """Apply a block in which a comment names each file, and an empty line ends each place in it."""
    for part in re.split(r"^# ", diff, flags=re.MULTILINE)[1:]:
        name, changes = part.split("\n", 1)
        path = folder / name
        text = path.read_text() if path.exists() else ""
        for change in changes.strip("\n").split("\n\n"):
            lines = change.splitlines()
            old, new = ("".join(f"{one[1:]}\n" for one in lines if one[0] != sign) for sign in "+-")
            assert not old or text.count(old) == 1, f"{name} does not have once:\n{old}"
            text = text.replace(old, new) if old else new
        path.write_text(text)


def test_recipe_for_a_setting_makes_one_that_works(copy):
    (block,) = blocks_of(PAGE, "diff")
    apply(block.code, copy)
    tests = ["core/test_settings_values.py", "core/test_log_requests.py", "docs/test_docs_tables.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "settings or log_requests"]
        + [f"tests/{name}" for name in tests],
        cwd=copy,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        | {"PYTHONPATH": str(copy / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


FIELD = """\
    transform: Callable[..., Any] | None = field(
        default=None, kw_only=True, metadata={_RULE: Rule(1, takes_requests=True, sees_batch=True)}
    )
"""
USES_FIELD = """
from core_kit import Doubler, plan_of, start

def transform(self, inputs, requests):
    return inputs

def forward(self, X, requests):
    return X

hooks = plan_of(start(type("Model", (Doubler,), {"transform": transform, "forward": forward}))).hooks
assert hooks.transform and not hooks.is_plain
assert hooks.seeing_batch == ("transform", "forward")
for wrong in ({"tranform": transform}, {"transform": lambda self: None}):
    try:
        start(type("Model", (Doubler,), wrong))
    except Exception as error:
        print(error)
"""


def test_recipe_for_a_hook_checks_and_binds_one_by_its_field(copy):
    path = copy / "src" / "kindaware" / "_hooks" / "hooks.py"
    text = path.read_text()
    place = "    forward: Callable[..., Any] = field(\n"
    assert text.count(place) == 1
    path.write_text(text.replace(place, FIELD + place))
    done = subprocess.run(
        [sys.executable, "-c", USES_FIELD],
        env=os.environ | {"PYTHONPATH": f"{copy / 'src'}:{copy / 'tests' / 'core'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    misspelled, uncallable = done.stdout.splitlines()
    assert "attribute 'tranform': expected the name 'transform'" in misspelled
    assert "hook transform(self): expected to be called with 1 argument(s)" in uncallable


def test_recipes_name_files_that_exist():
    paths = [code for code in code_in(TEXT) if re.fullmatch(r"[\w./]+(\.(py|md|toml)|/\w*)", code)]
    assert len(paths) > 40
    assert [path for path in paths if path not in BUILT and find(path) is None] == []


def test_recipes_name_what_the_files_have():
    named = re.findall(r"`([\w.]+)` in `([\w/]+\.py)`", TEXT)
    assert len(named) > 10
    missing = [(name, path) for name, path in named if name.split(".")[-1] not in find(path).read_text()]
    assert missing == []


def test_layout_names_each_folder_of_the_project():
    listed = {code.rstrip("/") for row in table_with(PAGE, "Path") for code in code_in(row[0])}
    folders = [one for one in ROOT.glob("[!.]*") if [*one.glob("*.py"), *one.glob("*.md")]]
    folders += [one for one in (ROOT / "tests").iterdir() if [*one.glob("**/test_*.py")]]
    assert {one.relative_to(ROOT).as_posix() for one in folders} - {"tests"} <= listed
