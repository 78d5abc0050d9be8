"""What a soak must show: bars that can be missed, and a page that says so."""

import json
import time

import pytest
from stress.soak import docs_page
from stress.soak.__main__ import KEPT, RESULTS
from stress.soak.bars import bars_of
from stress.soak.faults import VICTIM, Fault
from stress.soak.figures import make_figures
from stress.soak.processes import Sample
from stress.soak.report import write_page
from stress.soak.run import NAMES, Run
from stress.soak.tally import BAD, RIGHT, Tally


def make_run(memory=lambda second: 400, fds=lambda second: 50, pid=lambda second: 7):
    """A run of 100 s; memory in MiB."""
    tally = Tally(time.time())
    for name in NAMES:
        tally.note(name, RIGHT, time.time() - 0.01)
    samples = [
        Sample(second, name, pid(second), int(memory(second) * 2**20), fds(second))
        for second in range(100)
        for name in ("tritonserver", "step")
    ]
    # Killed all the time, so nothing is asked of it.
    samples += [Sample(second, VICTIM, second, second * 2**30, second) for second in range(100)]
    faults = [Fault(3.0, "kill", "step", 2.5), Fault(60.0, "reload", VICTIM, 3.0)]
    return Run(100.0, tally, faults, samples, returncode=0)


def missed(run, **options):
    return [one.what for one in bars_of(run, **{"is_quick": False, **options}) if not one.is_met]


def test_run_without_a_fault_of_its_own_meets_all_bars():
    assert missed(make_run()) == []


@pytest.mark.parametrize("outcome", BAD)
def test_one_request_that_must_not_be_misses_a_bar(outcome):
    run = make_run()
    run.tally.note("step", outcome, time.time(), "this came")
    assert len(missed(run)) == 1
    assert "step, " + outcome + ": this came" in run.tally.examples[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"memory": lambda second: 400 + second},
        {"fds": lambda second: 50 + second},
        {"pid": lambda second: 7 + (second > 80)},
    ],
)
def test_growth_and_a_new_process_in_the_last_half_miss_a_bar(changes):
    assert len(missed(make_run(**changes))) == 2


def test_growth_in_the_first_half_is_none_that_counts():
    assert missed(make_run(memory=lambda second: min(second, 50) * 10)) == []


def test_quick_run_may_grow_a_little_more():
    run = make_run(memory=lambda second: 400 + 0.8 * second)
    assert len(missed(run)) == 2
    assert missed(run, is_quick=True) == []


def test_end_of_the_server_and_problems_of_the_run_miss_a_bar():
    run = make_run()
    run.returncode = -11
    run.problems = ["step was not healed"]
    assert len(missed(run)) == 2


ABOUT = {
    "command": "python -m stress.soak --minutes 20",
    "date": "2026-11-29",
    "commit": "0123456789ab",
    "uncommitted_changes": False,
    "machine": {"processor": "one", "cores": 2, "memory_gib": 8.0, "load_average": [1.5, 1.0, 1.0]},
    "versions": {"torch": "2.14.1"},
}


@pytest.fixture(scope="module")
def figures():
    run = make_run()
    run.tally.note("step", "swapped", time.time(), "<key 6>")
    made = make_figures(run, bars_of(run, is_quick=False), ABOUT)
    # As the file has them.
    return json.loads(json.dumps(made))


def test_page_has_bars_outcomes_plots_and_faults(figures):
    page = write_page(figures)
    assert page.count("<svg") == 1
    assert "MISSED" in page
    assert "&lt;key 6&gt;" in page
    assert "<td>60</td><td>reload</td><td>victim</td><td>3.0</td>" in page
    assert "<td>torch</td><td>2.14.1</td>" in page


def test_answers_are_counted_in_parts_of_the_run_with_none_in_some(figures):
    answers = figures["answers"]
    assert len(answers["second"]) == 100
    assert answers["per_second"][0] == len(NAMES)
    assert 10 <= answers["p50_ms"][0] < 1000
    assert (answers["per_second"][7], answers["p99_ms"][7]) == (0, None)


def test_processes_of_one_model_have_a_line_each(figures):
    names = [one["name"] for one in figures["processes"]]
    assert names.count("step") == 1
    assert names.count(VICTIM) == 100


def test_block_of_the_docs_has_the_figures_of_the_kept_run(figures):
    block = docs_page.make_block(figures)
    assert "`python -m stress.soak --minutes 20`, on 2026-11-29; commit 0123456789\n" in block
    assert "| 0 requests answered with what another request asks for | 1 | **missed** |" in block
    kept = RESULTS / f"{KEPT}.json"
    wanted = docs_page.make_block(json.loads(kept.read_text()) if kept.exists() else None)
    assert wanted in docs_page.PAGE.read_text()
