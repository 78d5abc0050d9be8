"""Times of forwards that take turns, and the number of threads that they call for."""

import random

import pytest

from kindaware._tuning.rounds import shortest_times
from kindaware._tuning.threads import ThreadTimes, fewer_and_fewer, measure_threads


class Machine:
    """A machine of its own clock, on which forwards take as long as they are said to.

    Args:
        seconds: of a forward of one request, by number of threads.
        disturbed: share of forwards that other programs make longer.
    """

    def __init__(self, seconds, *, disturbed=0.0, seed=0):
        self.now = 0.0
        self.num_threads = None
        self.ran = []
        self._seconds = seconds
        self._disturbed = disturbed
        self._random = random.Random(seed)

    def clock(self):
        return self.now

    def set_threads(self, count):
        self.num_threads = count

    def forward(self, size):
        def run():
            self.ran.append((self.num_threads, size))
            is_disturbed = self._random.random() < self._disturbed
            self.now += (
                size * self._seconds[self.num_threads] * (self._random.uniform(1, 20) if is_disturbed else 1)
            )

        return run

    def measure(self, sizes=(1, 8)):
        counts = sorted(self._seconds, reverse=True)
        forwards = {size: self.forward(size) for size in sizes}
        return measure_threads(counts, forwards, self.set_threads, clock=self.clock)


def test_shortest_times_take_turns_there_and_back():
    order, now = [], [0.0]

    def variant(name):
        def run():
            order.append(name)
            now[0] += 0.02

        return run

    times = shortest_times(
        {name: variant(name) for name in "abc"},
        num_rounds=2,
        deadline=10.0,
        enter=lambda name: order.append(f"enter {name}"),
        clock=lambda: now[0],
    )
    assert order == [part for name in "abccba" for part in (f"enter {name}", name, name)]
    assert times == {name: pytest.approx(0.02) for name in "abc"}


def test_shortest_times_run_that_follows_another_variant_is_not_timed():
    seconds, now = iter([5.0, 0.02]), [0.0]

    def run():
        now[0] += next(seconds)

    times = shortest_times(
        {"a": run}, num_rounds=1, deadline=10.0, enter=lambda name: None, clock=lambda: now[0]
    )
    assert times == {"a": pytest.approx(0.02)}


def test_shortest_times_short_runs_are_repeated_and_the_shortest_counts():
    seconds, now = iter([0.001, 0.004, 0.002, 0.003, 0.004, 0.02]), [0.0]

    def run():
        now[0] += next(seconds)

    times = shortest_times(
        {"a": run}, num_rounds=1, deadline=10.0, enter=lambda name: None, clock=lambda: now[0]
    )
    assert times == {"a": pytest.approx(0.002)}


def test_shortest_times_no_turn_begins_that_would_end_after_the_deadline():
    now = [0.0]

    def run():
        now[0] += 1.0

    shortest_times({"a": run}, num_rounds=9, deadline=5.0, enter=lambda name: None, clock=lambda: now[0])
    assert now[0] == 4.0


def test_rate_of_long_forwards_is_theirs():
    times = ThreadTimes(2, {1: {1: 0.080}, 2: {1: 0.045}})
    assert times.rate(2) == pytest.approx(1 / 0.045, rel=0.01)
    assert times.rate(1) == pytest.approx(1 / 0.080, rel=0.01)
    assert times.fewest == 2


def test_rate_of_short_forwards_is_what_is_left_of_the_cores():
    times = ThreadTimes(2, {1: {1: 123e-6}, 2: {1: 93e-6}})
    assert times.rate(1) == pytest.approx(2 / (123e-6 + 160e-6))
    assert times.rate(2) == pytest.approx(2 / (186e-6 + 160e-6))
    assert times.fewest == 1


def test_rate_counts_each_request_of_a_batch():
    times = ThreadTimes(2, {2: {4: 0.4}})
    assert times.rate(2) == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize(("seconds", "expected"), [(0.109, 1), (0.112, 2)])
def test_fewest_threads_that_nearly_reach_the_best_rate_are_enough(seconds, expected):
    assert ThreadTimes(2, {1: {1: seconds}, 2: {1: 0.1}}).fewest == expected


def test_fewest_weighs_batches_of_both_sizes():
    by_size = {1: {1: 0.010, 8: 0.200}, 2: {1: 0.011, 8: 0.100}}
    assert ThreadTimes(2, by_size).fewest == 2


def test_text_names_sizes_times_and_rates():
    times = ThreadTimes(2, {2: {1: 0.05, 8: 0.4}, 1: {1: 0.1, 8: 0.8}})
    assert (
        str(times)
        == "batches of 1 and 8 with 1: 100 and 800 ms, 10 requests/s; 2: 50 and 400 ms, 20 requests/s"
    )


@pytest.mark.parametrize(
    ("num_cores", "counts"), [(2, [2, 1]), (3, [3, 1]), (12, [12, 6, 3, 1]), (64, [64, 32, 16, 8, 4, 2, 1])]
)
def test_fewer_and_fewer_halves_down_to_one(num_cores, counts):
    assert fewer_and_fewer(num_cores) == counts


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({1: 123e-6, 2: 93e-6}, 1),  # a small MLP: the server needs a core
        ({1: 1.29e-3, 2: 0.85e-3}, 2),  # a transformer
        ({1: 0.16, 2: 0.09}, 2),  # a ResNet50
        ({1: 0.080, 2: 0.046, 4: 0.027, 8: 0.025}, 4),  # scales to a point
        ({1: 1e-3, 2: 1.1e-3, 4: 1.4e-3, 8: 9e-3}, 1),  # doesn't scale
    ],
)
def test_measured_number_is_the_same_in_nine_of_ten_starts_on_a_noisy_machine(seconds, expected):
    found = [Machine(seconds, disturbed=0.25, seed=seed).measure().fewest for seed in range(20)]
    assert found.count(expected) >= 18


@pytest.mark.parametrize("seconds", [1e-5, 1e-3, 0.02, 0.3, 5.0])
@pytest.mark.parametrize("num_cores", [2, 64])
def test_measurement_ends_in_time(seconds, num_cores):
    machine = Machine({count: seconds * num_cores / count for count in fewer_and_fewer(num_cores)})
    machine.measure()
    # The first run isn't counted; the next, and the two that set the expectation, take as long as they take.
    assert machine.now <= 2.0 + 6 * seconds


def test_slow_forwards_keep_all_threads_and_say_their_time():
    times = Machine({1: 10.0, 2: 5.0}).measure()
    assert (times.fewest, dict(times.seconds)) == (2, {2: {1: 5.0}})


def test_first_forward_of_all_may_take_longer_than_the_measurement():
    machine = Machine({1: 2e-4, 2: 1.9e-4})
    first = iter([10.0])
    forwards = {size: machine.forward(size) for size in (1, 8)}

    def run():
        machine.now += next(first, 0.0)
        forwards[1]()

    times = measure_threads([2, 1], {1: run, 8: forwards[8]}, machine.set_threads, clock=machine.clock)
    assert (times.fewest, set(times.seconds)) == (1, {1, 2})


def test_numbers_below_a_hopeless_one_are_not_tried():
    machine = Machine({count: 0.016 / count for count in fewer_and_fewer(16)})
    machine.measure()
    assert {count for count, _ in machine.ran} == {16, 8}


def test_batches_that_take_long_are_left_out_and_a_single_request_is_not():
    machine = Machine({1: 0.016, 2: 0.008})
    assert set(machine.measure().seconds[2]) == {1}
    machine = Machine({1: 0.010, 2: 0.005})
    assert set(machine.measure().seconds[2]) == {1, 8}
