"""The fragments in changelog.d, and what the next version's part of the changelog becomes of them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("towncrier", reason="no towncrier: pip install 'kindaware[dev]'")

ROOT = Path(__file__).resolve().parents[2]
FRAGMENTS = ROOT / "changelog.d"
PYPROJECT = (ROOT / "pyproject.toml").read_text()
TYPES = re.findall(r"^\[tool\.towncrier\.fragment\.(\w+)\]$", PYPROJECT, re.MULTILINE)
NAME = re.compile(rf"(?:\+[a-z0-9]+(?:-[a-z0-9]+)*|[1-9]\d*)\.(?:{'|'.join(TYPES)})\.md")


def fragments():
    return [path for path in sorted(FRAGMENTS.iterdir()) if path.name != "README.md"]


def draft(folder):
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--date", "2026-01-31"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path):
    """What towncrier reads, in a folder of its own."""
    shutil.copytree(FRAGMENTS, tmp_path / "changelog.d")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    return tmp_path


def test_every_fragment_is_named_by_what_it_is_about_and_a_known_type():
    assert [path.name for path in fragments() if not NAME.fullmatch(path.name)] == []


def test_every_fragment_fits_below_a_bullet():
    for path in fragments():
        lines = path.read_text().splitlines()
        assert lines, path.name
        assert not lines[0].startswith(("-", "*", "#")), path.name
        assert max(map(len, lines)) <= 108, path.name


def test_links_of_a_fragment_resolve_from_where_its_text_ends_up():
    for path in fragments():
        for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
            assert target.startswith("https://") or (ROOT / target).exists(), (path.name, target)


def test_draft_has_every_fragment_under_the_heading_of_its_type():
    done = draft(ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("## [Unreleased] - 2026-01-31\n")
    sections = dict(
        section.split("\n", 1) for section in re.split(r"^### ", done.stdout, flags=re.MULTILINE)[1:]
    )
    for path in fragments():
        kind = path.name.split(".")[1]
        heading = "Known limits" if kind == "limits" else kind.capitalize()
        text = "\n  ".join(path.read_text().strip().split("\n"))
        assert f"- {text}\n" in sections[heading] or f"- {text} (#" in sections[heading], path.name


def test_draft_with_a_fragment_of_an_unknown_type_is_refused(project):
    (project / "changelog.d/+misspelled.fix.md").write_text("Nobody would have read this.\n")
    done = draft(project)
    assert done.returncode != 0
    assert "Invalid news fragment name: +misspelled.fix.md" in done.stderr


def test_build_puts_a_version_above_the_last_one_and_empties_the_folder(project):
    (project / "changelog.d/123.limits.md").write_text("It does not\nfly.\n")
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    command = [
        sys.executable,
        "-m",
        "towncrier",
        "build",
        "--yes",
        "--version",
        "9.0.0",
        "--date",
        "2030-01-31",
    ]
    subprocess.run(command, cwd=project, capture_output=True, check=True)
    changelog = (project / "CHANGELOG.md").read_text()
    head, new, old = re.split(r"^## .*9\.0\.0.*$|^## \[0\.1\.0\].*$", changelog, flags=re.MULTILINE)
    assert "## [9.0.0] - 2030-01-31\n" in changelog
    assert head.endswith("<!-- towncrier release notes start -->\n\n")
    assert "### Known limits\n\n- It does not\n  fly. (#123)\n" in new
    assert "`KindAwareModel`: hooks `load`" in old
    assert [path.name for path in (project / "changelog.d").iterdir()] == ["README.md"]


def test_readme_lists_the_types_that_there_are():
    readme = (FRAGMENTS / "README.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE) == TYPES
