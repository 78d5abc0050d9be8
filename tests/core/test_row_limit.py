"""How many rows a forward gets, where that is measured before the instance is ready."""

import itertools
import time

import pytest
import torch
from core_kit import Doubler, plan_of, start

from kindaware import ConfigError
from kindaware._batch import row_limit as _row_limit
from kindaware._batch.row_limit import BUDGET_SECONDS, Measured, largest_batch, measure_row_limit


class Machine:
    """Runs batches in a time of its own: a function of the rows, in seconds; a first run takes longer."""

    def __init__(self, seconds, *, memory=10**9, cold=0.0):
        self.seconds, self.memory, self.cold = seconds, memory, cold
        self.now, self.sizes = 100.0, []

    def clock(self):
        return self.now

    def prepare(self, rows):
        self.sizes.append(rows)
        is_cold = [True]

        def run():
            self.now += self.seconds(rows) + self.cold * len(is_cold)
            is_cold.clear()
            return rows <= self.memory

        return run

    def measure(self, largest=1000):
        return measure_row_limit(self.prepare, largest, self.clock)


def rising_to(best, unit=1e-4):
    """Seconds of batches whose rows per second rise up to a size, and fall beyond it."""
    return lambda rows: unit * (1 + rows / 64 + max(0, rows - best))


def test_measure_finds_the_size_from_which_on_rows_are_no_faster():
    machine = Machine(rising_to(64))
    assert machine.measure().max_rows == 64
    # Two more, to be sure.
    assert machine.sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_measure_finds_the_smallest_of_equally_fast_sizes():
    assert Machine(lambda rows: 1e-4 * rows).measure().max_rows == 1
    assert Machine(lambda rows: 1e-4 * max(rows, 8)).measure().max_rows == 8
    # 4 % more rows per second are not worth twice the rows.
    assert Machine(lambda rows: 1e-4 * rows * 0.96 ** (rows > 8)).measure().max_rows == 1


def test_measure_prefers_a_larger_size_only_if_it_is_faster_by_more_than_the_factor(monkeypatch):
    monkeypatch.setattr(_row_limit, "_GAIN", 1.0)
    assert Machine(lambda rows: rows / 1024).measure(4).max_rows == 1


def test_measure_needs_two_sizes_in_succession_that_are_no_faster():
    times = {1: 1, 2: 3, 4: 1, 8: 9, 16: 9}
    assert Machine(lambda rows: 1e-3 * times[rows]).measure().max_rows == 4
    times = {1: 1, 2: 3, 4: 9, 8: 1}
    assert Machine(lambda rows: 1e-3 * times[rows]).measure().max_rows == 1


def test_measure_of_rows_that_are_ever_faster_finds_no_limit():
    machine = Machine(lambda rows: 1e-3)
    assert machine.measure().max_rows is None
    assert machine.sizes[-2:] == [512, 1000]
    machine.sizes.clear()
    assert machine.measure(8).max_rows is None
    assert machine.sizes == [1, 2, 4, 8]
    assert machine.measure(1).max_rows is None


def test_measure_ends_at_the_largest_size_with_the_best_below_it():
    assert Machine(rising_to(8)).measure(16).max_rows == 8
    assert Machine(rising_to(8)).measure(9).max_rows == 8


def test_measure_ends_where_memory_does_with_the_best_that_fits():
    machine = Machine(lambda rows: 1e-3, memory=20)
    assert machine.measure().max_rows == 16
    assert machine.sizes[-1] == 32
    assert Machine(lambda rows: 1e-3, memory=0).measure().max_rows is None


def test_measure_that_a_later_run_has_no_memory_for_ends_too():
    runs = []

    def prepare(rows):
        return lambda: runs.append(rows) or len(runs) != 7

    ticks = itertools.count()
    assert measure_row_limit(prepare, 8, lambda: next(ticks) / 1000).max_rows == 1
    assert runs == [1, 1, 1, 1, 2, 2, 2]


def test_measure_does_not_count_the_first_run_of_a_size():
    assert Machine(rising_to(64), cold=0.05).measure().max_rows == 64


def test_measure_takes_the_fastest_of_three_runs():
    slow = iter([0, 0, 9, 0] + [0, 9, 0, 0] * 20)
    now = [0.0]

    def prepare(rows):
        def run():
            now[0] += 1e-3 * (1 + next(slow))
            return True

        return run

    found = measure_row_limit(prepare, 4, lambda: now[0])
    assert found == Measured(None, pytest.approx(4000))


def test_measure_begins_nothing_that_would_end_after_its_time():
    machine = Machine(lambda rows: 0.125)
    # 0.5 s for each size, and 1 s expected of the next: the third may end after 2 s, and the fourth does.
    assert machine.measure() == Measured(None, 32)
    assert machine.sizes == [1, 2, 4]
    assert machine.now <= 100 + BUDGET_SECONDS


def test_measure_whose_time_is_up_has_found_no_limit_even_if_the_last_size_was_no_faster():
    machine = Machine(lambda rows: 0.1 * rows)
    assert machine.measure().max_rows is None
    assert machine.sizes == [1, 2]


def test_describe_says_what_was_found():
    assert Measured(64, 12345.6).describe() == "max_rows_per_forward 64 (auto: 12,346 rows/s)"
    assert Measured(None, 5.0).describe() == "max_rows_per_forward no limit (auto: 5 rows/s)"


AUTO = {"kindaware.max_rows_per_forward": "auto"}


class Sleepless(Doubler):
    """Notes the rows of each forward."""

    def load(self):
        self.rows = []

    def forward(self, X):
        self.rows.append(len(X))
        return 2 * X


def settle_at(monkeypatch, number):
    """Let the measurement find a number, having run what it would."""

    def measure(prepare, largest):
        assert prepare(largest)()
        return Measured(number, 10.0)

    monkeypatch.setattr("kindaware._batch.warmup.measure_row_limit", measure)


def test_initialize_with_auto_measures_after_the_warm_up_and_logs_what_it_found(monkeypatch, caplog):
    settle_at(monkeypatch, 2)
    with caplog.at_level("INFO"):
        model = start(Sleepless, parameters=AUTO)
    assert model.rows == [1, 8]
    runner = model._kindaware_instance._pipeline.runner
    assert runner.max_rows == 2
    # Neither the warm-up nor the measurement is a client's.
    assert runner.counters.batches == 0
    assert "(batch sizes 1), max_rows_per_forward 2 (auto: 10 rows/s)" in caplog.messages[-1]


def test_initialize_with_auto_that_does_not_end_is_told(monkeypatch, caplog):
    def measure(*args):
        time.sleep(0.3)
        return Measured(2, 10.0)

    monkeypatch.setattr("kindaware._hooks.overdue.OVERDUE_SECONDS", 0.05)
    monkeypatch.setattr("kindaware._batch.warmup.measure_row_limit", measure)
    start(Sleepless, parameters=AUTO)
    assert "the measurement of max_rows_per_forward has not returned for 0.05 s" in caplog.text


def test_initialize_with_auto_runs_batches_of_its_own(caplog):
    with caplog.at_level("INFO"):
        model = start(Sleepless, parameters=AUTO)
    assert model.rows[:9] == [1, *[1] * 4, *[2] * 4]
    assert "max_rows_per_forward" in caplog.messages[-1]


@pytest.mark.parametrize("parameters", [{}, {"kindaware.max_rows_per_forward": "4"}])
def test_initialize_without_auto_measures_nothing(parameters, caplog):
    with caplog.at_level("INFO"):
        assert start(Sleepless, parameters=parameters).rows == [1]
    assert "rows/s" not in caplog.messages[-1]


def test_initialize_with_auto_of_a_model_that_does_not_batch_measures_nothing(caplog):
    with caplog.at_level("INFO"):
        model = start(Sleepless, parameters=AUTO, max_batch_size=0, dynamic_batching=None)
    assert len(model.rows) == 1
    assert "without effect: max_rows_per_forward (no forward gets more rows)" in caplog.messages[-1]


def test_initialize_with_auto_and_no_warm_up_says_that_nothing_was_measured(caplog):
    with caplog.at_level("INFO"):
        model = start(Sleepless, parameters=AUTO | {"kindaware.warmup": "off"})
    assert model.rows == []
    assert model._kindaware_instance._pipeline.runner.max_rows is None
    text = "warm-up off, max_rows_per_forward no limit (auto: measured in the warm-up only)"
    assert text in caplog.messages[-1]


class Narrow(Sleepless):
    """Takes no more than 3 rows."""

    error = MemoryError

    def forward(self, X):
        if len(X) > 3:
            raise self.error("too many")
        return super().forward(X)


def test_initialize_with_auto_ends_where_memory_does(monkeypatch):
    monkeypatch.setattr(_row_limit, "_GAIN", 0.0)
    model = start(Narrow, parameters=AUTO)
    assert model._kindaware_instance._pipeline.runner.max_rows == 2


def test_initialize_with_auto_of_a_model_that_fails_at_a_size_is_refused_by_it():
    class Failing(Narrow):
        error = ValueError

    text = r"(?s)ValueError: too many.*model 'm' warm-up with 4 row\(s\): expected forward to answer zeros"
    with pytest.raises(ConfigError, match=text):
        start(Failing, parameters=AUTO)


def test_initialize_with_auto_asks_for_inputs_of_each_size():
    class WithInputs(Sleepless):
        def warmup_inputs(self, rows):
            if rows == 2:
                raise ValueError("no two")
            return {"X": torch.ones(rows, 4)}

    with pytest.raises(ConfigError, match=r"(?s)no two.*warm-up with 2 row\(s\): expected warmup_inputs to"):
        start(WithInputs, parameters=AUTO)


def test_initialize_with_auto_is_interrupted_in_a_test(monkeypatch):
    class Interrupted(Sleepless):
        def forward(self, X):
            if len(X) == 2:
                raise KeyboardInterrupt
            return X

    with pytest.raises(KeyboardInterrupt):
        start(Interrupted, parameters=AUTO)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("4", (4, "max_rows_per_forward")),
        ("8", (8, "max_batch_size")),
        ("9", (8, "max_batch_size")),
        ("auto", (8, "max_batch_size")),
    ],
)
def test_largest_batch_is_the_limit_only_below_max_batch_size(limit, expected):
    plan = plan_of(start(parameters={"kindaware.max_rows_per_forward": limit}))
    assert largest_batch(plan.spec, plan.settings) == expected


def test_default_sizes_of_the_warm_up_are_at_most_the_limit():
    class Compiled(Sleepless):
        compile = "default"
        max_rows_per_forward = 1

    assert start(Compiled).rows == [1]
