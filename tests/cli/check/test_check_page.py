"""The page's table of rules is the registry."""

from pathlib import Path

from kindaware.cli.check._registry import LEVELS
from kindaware.cli.check._session import RULES

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "commands" / "check.md"


def test_page_lists_the_rules_with_level_and_summary():
    written = [line for line in PAGE.read_text().splitlines() if line.startswith("| `KA")]
    rules = sorted(RULES.values(), key=lambda one: one.id)
    assert written == [f"| `{one.id}` | {one.level} | {one.summary} |" for one in rules]


def test_levels_are_explained():
    text = PAGE.read_text()
    assert all(f"**{level}**" in text for level in LEVELS)
