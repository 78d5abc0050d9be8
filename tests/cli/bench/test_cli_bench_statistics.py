"""Ratios of rounds, the interval of their median, and what they say."""

import re

import pytest

from kindaware.cli.bench._level import Latencies, Level
from kindaware.cli.bench._load import Load
from kindaware.cli.bench._ratios import A, B, Comparison, Ratio, judge, write_comparisons
from kindaware.cli.bench._stats import median_interval


def level(rate, p95=2.0, errors=None):
    return Level(Load(8), rate, rate, 100, Latencies(1, 1.5, p95, 3), errors or {}, 0.1, 0, None, None, None)


def comparison(pairs):
    return Comparison(Load(8), [{A: level(one), B: level(other)} for one, other in pairs])


@pytest.mark.parametrize(
    ("number", "bounds"),
    # Sample sizes and ranks of the sign test's 95 % interval, as its tables have them.
    [(5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (10, (2, 9)), (12, (3, 10)), (20, (6, 15))],
)
def test_median_interval_lies_between_the_ranks_of_the_sign_test(number, bounds):
    values = [float(one) for one in range(1, number + 1)]
    assert median_interval(values[::-1]) == bounds


def test_ratio_is_of_the_same_round():
    ratio = Ratio.of([2, 40, 600, 2, 40, 600], [1, 20, 300, 1, 20, 300])
    assert ratio.spread.median == 2
    assert ratio.interval == (2, 2)
    assert ratio.is_certain


@pytest.mark.parametrize(
    ("ratios", "text"),
    [
        ([1.1, 1.2, 1.3, 1.2, 1.2, 1.2], "B answers more requests per second than A: 1.200 times as many"),
        ([0.5, 0.6, 0.5, 0.6, 0.5, 0.6], "B answers fewer requests per second than A: 0.550 times"),
        (
            [0.9, 1.2, 1.3, 1.2, 1.2, 1.2],
            "no difference can be told from noise: .* 0.900 to 1.300, includes 1; with 6 .* --rounds 12",
        ),
        ([1.0, 1.2, 1.2, 1.2, 1.2, 1.2], "no difference can be told"),
        ([2.0] * 5, "too few rounds to tell a difference from noise: at least 6"),
    ],
)
def test_judge_says_plainly_whether_there_is_a_difference(ratios, text):
    found = judge(comparison([(100.0, 100.0 * ratio) for ratio in ratios]))
    assert re.match(text, found), found


def test_many_rounds_without_a_difference_suggest_no_more():
    found = judge(comparison([(100.0, 90.0 + n) for n in range(21)]))
    assert found.endswith("includes 1")


def test_comparison_has_medians_ratios_and_errors():
    from kindaware.cli.bench._candidates import Candidate
    from kindaware.cli.bench._subject import Place

    one = Comparison(Load(8), [{A: level(100.0), B: level(150.0, 4.0, {"no": 2})}] * 6)
    candidates = {
        A: Candidate("net", Place("", None, ""), {}),
        B: Candidate("other", Place("", None, ""), {}),
    }
    assert write_comparisons(candidates, [one]).splitlines() == [
        "A: net",
        "B: other",
        "",
        "8 requests in flight, 6 rounds in turns",
        "  median              requests/s                     p50                     p95",
        "  A                       100.00                    1.00                    2.00",
        "  B                       150.00                    1.00                    4.00",
        "  B / A   1.500 (1.500 to 1.500)  1.000 (1.000 to 1.000)  2.000 (2.000 to 2.000)",
        "B answers more requests per second than A: 1.500 times as many (95 % interval 1.500 to 1.500)",
        "error, 12 times: no",
    ]
