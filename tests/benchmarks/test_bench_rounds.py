"""Turns, ratios, bars, and the fit: what the figures are made of."""

import pytest
from benchmarks.bars import BARS, OVERHEAD, Bar, starts_scenario, threads_scenario
from benchmarks.parts import padding, threads
from benchmarks.parts.overhead import fit_line
from benchmarks.parts.scenarios import CANDIDATE, SCENARIOS
from benchmarks.parts.serving import fastest
from benchmarks.parts.step import BESIDE_THE_LOOP, FIRST_ITEMS, SIDE_BY_SIDE
from benchmarks.parts.turns import NUM_PARTS, summarise
from benchmarks.report.tables import align, render

from kindaware.cli.bench._stats import Spread, interleave, paired_ratio


def test_interleave_takes_turns():
    calls = []
    candidates = {name: (lambda name=name: calls.append(name) or len(calls)) for name in "ABC"}

    rounds = interleave(candidates, 2)

    assert calls == list("ABCABC")
    assert rounds == [{"A": 1, "B": 2, "C": 3}, {"A": 4, "B": 5, "C": 6}]


def test_paired_ratio_of_a_machine_that_slows_down_is_steady():
    spread = paired_ratio([200.0, 100.0, 20.0], [100.0, 50.0, 10.0])

    assert spread == Spread(median=2.0, lower=2.0, upper=2.0, number=3)


def test_spread_is_written_without_exponents():
    assert str(Spread(2083.4, 9.876, 0.01234, 3)) == "2,083 (9.88 to 0.0123)"


def test_spread_has_the_quartiles():
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Spread(3.0, 2.0, 4.0, 5)


@pytest.mark.parametrize(
    ("is_least", "median", "number", "verdict"),
    [
        (True, 1.5, 10, "met"),
        (True, 1.49, 10, "missed"),
        (False, 1.5, 10, "met"),
        (False, 1.51, 10, "missed"),
        (True, 2.0, 9, "met in only 9 rounds"),
    ],
)
def test_verdict_of_a_median_names_what_is_missing(is_least, median, number, verdict):
    bar = Bar("mlp", "ratio", 1.5, is_least=is_least)

    assert bar.verdict(Spread(median, 0.0, 9.0, number)) == verdict


def test_verdict_without_a_measurement_is_not_met():
    assert Bar("mlp", "ratio", 1.5).verdict(None) == "not measured"


def test_bars_are_about_what_is_measured():
    stepped = (SIDE_BY_SIDE, BESIDE_THE_LOOP, FIRST_ITEMS)
    auto_threads = [threads_scenario(network, count) for network in threads.SECONDS for count in (1, 2)]
    starts = [starts_scenario(network) for network in threads.SECONDS]
    measured = ("overhead", "imports", "sharing", *stepped, *padding.SCENARIOS, *auto_threads, *starts)
    forms = {scenario.name: scenario.forms for scenario in SCENARIOS}
    for bar in BARS:
        if bar.subject in forms:
            candidate, form = bar.ratio.partition(": ")[2].split(" / ")
            assert candidate == CANDIDATE
            assert form in forms[bar.subject]
        else:
            assert bar.subject in measured


def test_render_has_the_bars_of_what_was_measured():
    ratio = {"median": 2.3, "lower": 2.2, "upper": 2.4, "number": 12}
    parts = {"overhead": {"requests": 32, "us_per_request": {}, "ratios": {OVERHEAD: ratio}}}

    bars = [line for line in render(parts, BARS) if " at most " in line or " at least " in line]

    assert bars == [f"| overhead | {OVERHEAD} | at most 1.5 | 2.3 (2.2 to 2.4) | 12 | missed |"]


def test_align_pads_the_cells_of_tables():
    lines = ["A | text", "| a | |".replace("| |", "|  |"), "|---|---|", "| long | x |"]

    assert list(align(lines)) == ["A | text", "a", "long  x"]


def test_fastest_is_the_variant_of_a_form_with_the_higher_median():
    rates = {"official": [9.0], "hand_written": [1.0, 1.0, 9.0], "hand_written, 1 thread": [2.0, 2.0, 2.0]}
    rates |= {"kindaware": [4.0], "kindaware, 1 thread": [3.0]}

    assert fastest(rates, "hand_written") == "hand_written, 1 thread"
    assert fastest(rates, "kindaware") == "kindaware"


def test_fit_line_finds_the_costs_that_made_the_times():
    sizes = [1, 2, 4, 256]

    fit = fit_line(sizes, [50 + 7 * size for size in sizes])

    assert fit == pytest.approx({"fixed_us": 50, "per_request_us": 7, "max_deviation": 0}, abs=1e-6)


def test_turns_compare_within_each_part_of_the_rounds():
    slow = {"official": 200.0, "hand_written": 100.0, "kindaware": 110.0}
    quick = {form: time / 10 for form, time in slow.items()}

    found = summarise([slow] * 60 + [quick] * 60)

    assert found["rounds"] == 120
    assert found["us"]["hand_written"].number == NUM_PARTS
    assert found["ratios"]["hand_written"].median == pytest.approx(1.1)
    assert found["ratios"]["official"].median == pytest.approx(0.55)
    assert found["further_us"]["hand_written"].upper == pytest.approx(10)
    assert found["further_us"]["hand_written"].lower == pytest.approx(1)
