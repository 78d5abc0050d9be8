"""`StepIsolation`: who fails, who is stepped again and who is set aside, with as few steps as promised."""

from types import SimpleNamespace

import pytest
from core_kit import LOGGER, Clock, make_plan

from kindaware import KindAwareError, RequestError
from kindaware._batch.counters import Counters
from kindaware._batch.isolation_budget import BURST_SECONDS, IsolationBudget
from kindaware._batch.request import Request
from kindaware._device.health import Health
from kindaware._device.runtime import CpuRuntime
from kindaware._errors import OutputError
from kindaware._execute import step_isolation
from kindaware._execute.open_stream import OpenStream
from kindaware._execute.step_isolation import StepIsolation


class Steps:
    """Streams with numbers as states, and a `step` that a function of these numbers stands for."""

    def __init__(self, function, num_streams=8, *, isolates=True, is_mutable=False, **settings):
        self.calls = []
        self.function = function
        self.counters = Counters()
        self.device = SimpleNamespace(health=Health(CpuRuntime(), "m", LOGGER))
        states = [[n] if is_mutable else (n,) for n in range(num_streams)]
        self.streams = [OpenStream(Request(str(n), {}, 1), None, state) for n, state in enumerate(states)]
        plan = make_plan(lambda X: X, step=len, isolate_errors=isolates, **settings)
        self.isolation = StepIsolation(plan, self)
        self.run()

    def run(self):
        self.taken = []
        self.stepped = self.isolation.run(self.streams, self.taken.extend)

    def step(self, states, requests):
        numbers = [state[0] for state in states]
        assert [request.id for request in requests] == list(map(str, numbers))
        self.calls.append(numbers)
        return self.function(numbers)

    @property
    def results(self):
        return {int(stream.request.id): result for stream, result in self.taken}

    @property
    def failed(self):
        return [(error, [int(one.request.id) for one in streams]) for error, streams in self.stepped.failed]

    @property
    def aside(self):
        return [int(stream.request.id) for stream in self.stepped.aside]


def raises(error, *, over):
    """A step that raises over some streams, and gives back ten times the number of each otherwise."""

    def step(numbers):
        if set(numbers) & set(over):
            raise error
        return [10 * n for n in numbers]

    return step


def test_streams_of_a_good_step_have_their_results():
    steps = Steps(raises(None, over=[]), 3)
    assert (steps.results, steps.failed, steps.aside) == ({0: 0, 1: 10, 2: 20}, [], [])
    assert steps.calls == [[0, 1, 2]]
    assert steps.counters.retries == 0


@pytest.mark.parametrize("guilty", [0, 3, 7])
def test_stream_that_an_error_is_about_is_found_by_halving(guilty):
    error = ValueError("odd")
    steps = Steps(raises(error, over=[guilty]))
    assert steps.failed == [(error, [guilty])]
    assert steps.results == {n: 10 * n for n in range(8) if n != guilty}
    assert len(steps.calls) == 1 + 2 * 3
    assert steps.counters.retries == 2 * 3


def test_streams_that_all_raise_take_no_more_steps_than_promised():
    error = ValueError("odd")
    steps = Steps(raises(error, over=range(64)), 64)
    assert sorted(n for _, numbers in steps.failed for n in numbers) == list(range(64))
    assert all(one is error for one, _ in steps.failed)
    assert len(steps.calls) == 1 + 2 * 6 + 2


def test_single_stream_that_raises_is_stepped_once():
    error = ValueError("odd")
    steps = Steps(raises(error, over=[0]), 1)
    assert (steps.failed, steps.calls) == ([(error, [0])], [[0]])


@pytest.mark.parametrize("rows", [[0], [2], [0, 2]])
def test_streams_that_an_error_names_fail_and_the_others_are_stepped_once_more(rows):
    error = RequestError("odd", rows=rows)
    steps = Steps(raises(error, over=rows), 3)
    assert steps.failed == [(error, rows)]
    others = [n for n in range(3) if n not in rows]
    assert steps.calls == [[0, 1, 2], others]
    assert steps.results == {n: 10 * n for n in others}


def test_streams_that_an_error_names_all_of_fail_and_nothing_is_stepped_again():
    error = RequestError("odd", rows=[0, 1, 2])
    steps = Steps(raises(error, over=[0]), 3)
    assert (steps.failed, steps.calls) == ([(error, [0, 1, 2])], [[0, 1, 2]])


@pytest.mark.parametrize("rows", [[3], [-1], [0, 3]])
def test_error_that_names_a_stream_that_there_is_not_names_none(rows):
    error = RequestError("odd", rows=rows)
    steps = Steps(raises(error, over=[1]), 3, isolates=False)
    assert (steps.failed, steps.calls) == ([(error, [0, 1, 2])], [[0, 1, 2]])


def test_errors_that_name_one_stream_after_the_other_take_no_more_steps_than_promised():
    steps = Steps(raises(RequestError("odd", rows=[0]), over=range(64)), 64)
    assert len(steps.calls) == 1 + 2 * 6 + 2
    assert [numbers for _, numbers in steps.failed][:3] == [[0], [1], [2]]
    assert sorted(n for _, numbers in steps.failed for n in numbers) == list(range(64))


def test_streams_are_not_searched_where_errors_are_not_isolated():
    error = ValueError("odd")
    steps = Steps(raises(error, over=[1]), 4, isolates=False)
    assert (steps.failed, steps.calls) == ([(error, [0, 1, 2, 3])], [[0, 1, 2, 3]])


def test_steps_without_an_error_take_nothing_of_the_time_for_searches(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(step_isolation, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(IsolationBudget.__init__, "__defaults__", (clock,))

    def long_step(numbers):
        clock.now += 10 * BURST_SECONDS
        return numbers

    error = ValueError("odd")
    steps = Steps(long_step, 2, max_isolation=0.5)
    steps.function = raises(error, over=[1])
    steps.run()
    assert (steps.results, steps.failed) == ({0: 0}, [(error, [1])])


def test_states_that_may_have_changed_are_not_stepped_again():
    error = ValueError("odd")
    steps = Steps(raises(error, over=[1]), 3, is_mutable=True)
    [(shared, numbers)] = steps.failed
    assert (numbers, steps.calls) == ([0, 1, 2], [[0, 1, 2]])
    assert type(shared) is KindAwareError
    assert "model 'm' step: expected to return for all of its 3 streams, got ValueError: odd" in str(shared)
    assert shared.__cause__ is error


@pytest.mark.parametrize("is_mutable", [True, False])
def test_wrong_result_of_a_whole_step_fails_all_of_it_with_its_own_error(is_mutable):
    error = OutputError("two results")
    steps = Steps(raises(error, over=[1]), 3, is_mutable=is_mutable)
    assert (steps.failed, steps.calls) == ([(error, [0, 1, 2])], [[0, 1, 2]])


def test_streams_for_which_there_is_no_memory_are_set_aside_down_to_a_single_one():
    error = MemoryError("too many")

    def step(numbers):
        if len(numbers) > 1:
            raise error
        return numbers

    steps = Steps(step, 5)
    assert steps.calls == [[0, 1, 2, 3, 4], [0, 1, 2], [0, 1], [0]]
    assert (steps.results, steps.failed) == ({0: 0}, [])
    assert sorted(steps.aside) == [1, 2, 3, 4]
    assert steps.counters.out_of_memory == 3
    alone = Steps(raises(error, over=[0]), 1)
    assert (alone.failed, alone.aside) == ([(error, [0])], [])


def test_nothing_is_stepped_on_a_device_that_has_failed():
    class Lost(Steps):
        def step(self, states, requests):
            self.calls.append(len(states))
            self.device.health.fault = "RuntimeError: CUDA error"
            raise RuntimeError("CUDA error")

    steps = Lost(None, 4)
    assert (steps.calls, steps.results) == ([4], {})
