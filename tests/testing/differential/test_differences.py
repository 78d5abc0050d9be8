"""What is compared, and what isn't, in numbers."""

from collections import Counter
from pathlib import Path

from differences import NOT_COMPARED
from plain_requests import REQUESTS
from table import BEHAVIOURS, FAILURES


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


def test_the_page_on_testing_lists_every_difference():
    page = " ".join(Path(__file__).parents[3].joinpath("docs/testing.md").read_text().split())
    for name, (kind, reason) in NOT_COMPARED.items():
        assert f"| {name} | {kind} | {reason} |" in page
    assert f"{len(BEHAVIOURS) + len(FAILURES)} named behaviours" in page
    assert f"{len(REQUESTS)} models after the ideas of Triton's examples" in page
