"""What is compared, and what isn't, in numbers."""

from collections import Counter
from pathlib import Path

from differences import NOT_COMPARED
from generated_requests import FEWEST_COMPARED, GENERATED_MODELS
from plain_requests import REQUESTS
from table import BEHAVIOURS, FAILURES

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "testing.md"


def test_enough_behaviours_are_compared():
    compared = len(BEHAVIOURS) + len(FAILURES)
    print(f"{compared} named behaviours compared with the server; {len(NOT_COMPARED)} can't be:")
    print(dict(Counter(kind for kind, _ in NOT_COMPARED.values())))
    assert compared >= 60


def test_every_difference_has_a_known_kind_and_a_reason():
    kinds = {"crash", "hang", "corruption", "harness", "server", "text", "host"}
    assert {kind for kind, _ in NOT_COMPARED.values()} == kinds
    assert not [name for name, (_, reason) in NOT_COMPARED.items() if len(reason.split()) < 4]
    assert len(NOT_COMPARED) == 35


def test_the_page_on_testing_lists_every_difference_and_no_other():
    lines = PAGE.read_text().splitlines()
    start = lines.index("| What | Kind | Why |") + 2
    rows = lines[start : lines.index("", start)]
    assert rows == [f"| {name} | {kind} | {reason} |" for name, (kind, reason) in NOT_COMPARED.items()]


def test_the_page_on_testing_says_how_much_is_compared():
    text = " ".join(PAGE.read_text().split())
    assert f"{len(BEHAVIOURS) + len(FAILURES)} named behaviours" in text
    assert f"at least {len(GENERATED_MODELS) * FEWEST_COMPARED} generated requests" in text
    assert f"{len(REQUESTS)} models in the style of Triton's examples" in text
