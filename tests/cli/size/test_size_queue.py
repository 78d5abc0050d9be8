"""The model of a server: against what is known of queues, and the plans that are made with it."""

import numpy as np
import pytest

from kindaware._errors import ConfigError
from kindaware.cli.size._plan import Goal, find_highest_rate, make_plan
from kindaware.cli.size._queue import Service, simulate
from kindaware.cli.size._service import (
    choose_clients,
    compare_batches,
    interpolate,
    read_batches,
    read_delay,
)

BATCHING = Service(tuple(0.009 + 0.001 * rows for rows in range(1, 33)), 1, 0.0005)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_simulate_without_batches_is_the_queue_with_a_known_answer(load):
    # M/D/1, Pollaczek and Khinchine: a mean wait of load / (2 (1 - load)) services.
    outcome = simulate(Service((0.01,), 1, 0.002), load / 0.01, num_requests=200_000)
    wait = load / (2 * (1 - load)) * 0.01
    assert outcome.latencies.mean() == pytest.approx(wait + 0.012, rel=0.03)
    assert outcome.waiting.mean() == pytest.approx(load * wait / 0.01, rel=0.1)
    assert outcome.busy_share == pytest.approx(load, rel=0.02)
    assert outcome.mean_batch == 1


def test_simulate_two_instances_with_random_times_is_erlangs_queue():
    # M/M/2 at half its capacity: a third of the requests wait, and the mean wait is a third of a service.
    factors = tuple(-np.log(np.random.default_rng(1).random(20_000)))
    outcome = simulate(Service((0.01,), 2, 0.0, factors), 100.0, num_requests=200_000)
    assert outcome.latencies.mean() == pytest.approx(0.01 * 4 / 3, rel=0.03)
    assert outcome.busy_share == pytest.approx(0.5, rel=0.03)


def test_simulate_takes_all_that_waits():
    # Once a batch takes as long as its requests took to arrive: b = rate * (9 ms + b ms).
    outcome = simulate(BATCHING, 500.0)
    assert outcome.mean_batch == pytest.approx(9, rel=0.05)
    assert outcome.busy_share > 0.99


def test_simulate_takes_no_more_than_the_largest_batch():
    outcome = simulate(Service((0.01, 0.01), 1, 0.0), 190.0)
    assert 1.5 < outcome.mean_batch <= 2


def test_simulate_delay_holds_a_lone_request_back():
    service = Service((0.001,) * 8, 1, 0.0, delay_seconds=0.005)
    assert simulate(service, 1.0).percentile_ms(50) == pytest.approx(6, abs=0.01)
    full = simulate(service, 100_000.0)
    assert full.mean_batch == pytest.approx(8, rel=0.01)


def test_simulate_is_the_same_each_time():
    assert (simulate(BATCHING, 300.0).latencies == simulate(BATCHING, 300.0).latencies).all()


def test_highest_rate_keeps_the_limit_and_hardly_more_does():
    highest = find_highest_rate(BATCHING, 40.0)
    assert simulate(BATCHING, highest).percentile_ms(99) <= 40.0
    assert simulate(BATCHING, highest * 1.02).percentile_ms(99) > 40.0


def test_plan_has_the_fewest_replicas_that_keep_the_limit():
    plan = make_plan(BATCHING, Goal(rate=1000.0, p99_ms=40.0, cost_per_hour=3.6))
    assert plan.outcome.percentile_ms(99) <= 40.0
    assert simulate(BATCHING, 1000.0 / (plan.replicas - 1)).percentile_ms(99) > 40.0
    # 3.6 an hour is 0.001 a second: for each replica, 1 per million requests at 1000 per second.
    assert plan.cost_per_million == pytest.approx(plan.replicas)


def test_plan_queue_is_no_longer_than_can_be_served_in_time():
    plan = make_plan(BATCHING, Goal(rate=100.0, p99_ms=100.0, cost_per_hour=0.0))
    # A full queue before it, then its own batch: 32 requests every 41 ms.
    assert plan.queue_size / BATCHING.capacity + 0.0415 <= 0.1
    assert (plan.queue_size + 1) / BATCHING.capacity + 0.0415 > 0.1


def test_limit_that_no_request_keeps_is_an_error():
    with pytest.raises(ConfigError, match=r"--p99-ms: expected more than 10\.\d, which a request takes that"):
        make_plan(BATCHING, Goal(rate=100.0, p99_ms=5.0, cost_per_hour=0.0))


def test_capacity_is_of_the_best_batch():
    assert BATCHING.capacity == pytest.approx(32 / 0.041)
    assert Service((0.01, 0.03), 3, 0.0).capacity == pytest.approx(300)


def test_interpolate_fills_gaps_and_goes_on_beyond():
    times = {1: (0.010, 100), 3: (0.014, 50), 4: (0.016, 20)}
    assert interpolate(times, 6) == pytest.approx([0.010, 0.012, 0.014, 0.016, 0.018, 0.020])


def test_interpolate_leaves_out_sizes_that_were_rare_and_never_falls():
    times = {1: (0.010, 100), 2: (0.5, 3), 4: (0.009, 100)}
    assert interpolate(times, 4) == pytest.approx([0.010] * 4)


def test_batches_are_what_was_counted_in_between():
    def phase(count, ns):
        return {"count": str(count), "ns": str(ns)}

    def statistics(count, ns):
        batch = {"batch_size": "2", "compute_input": phase(count, ns)}
        batch |= {"compute_infer": phase(count, 8 * ns), "compute_output": phase(count, ns)}
        return [{"batch_stats": [batch, {"batch_size": 1}]}, {}]

    found = compare_batches(read_batches(statistics(5, 700)), read_batches(statistics(15, 1_700)))
    assert found == {2: (pytest.approx(1000e-9), 10)}


def test_clients_fill_a_batch_while_another_runs():
    assert choose_clients(1, 8) == [1, 2, 4, 8, 16]
    assert choose_clients(3, 1) == [3, 6]


def test_delay_is_the_dynamic_batchers():
    assert read_delay({"dynamic_batching": {"max_queue_delay_microseconds": "500"}}) == 0.0005
    assert read_delay({}) == 0
