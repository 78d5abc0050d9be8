"""What a forward costs besides its rows, learned from how long forwards take."""

import math

import pytest

from kindaware._batch.forward_cost import ForwardCost

COLD = 16
FIXED, PER_CELL = 1e-3, 1e-5
"""A forward costs as much as 100 cells."""


def seconds(work):
    return FIXED + PER_CELL * work


def learned(*works, time=seconds, cost=None):
    cost = cost or ForwardCost()
    for work in works:
        cost.note(work, time(work))
    return cost


def warm(*works, **options):
    return learned(*works, cost=learned(*[50.0] * COLD, time=lambda work: 1.0), **options)


def test_worth_of_the_first_forwards_is_all_padding_there_may_be():
    assert learned(*range(1, COLD)).worth(1000) == math.inf
    assert learned(*range(1, COLD + 1)).worth(1000) == math.inf
    assert learned(*range(1, COLD + 2)).worth(1000) < math.inf


@pytest.mark.parametrize("works", [[1000, 1000], [400, 500, 600], [1000]])
def test_worth_of_forwards_too_much_alike_is_a_share(works):
    assert warm(*works).worth(1000) == 250
    assert warm(*works).worth(40) == 10


@pytest.mark.parametrize("works", [[10, 1000], [1000, 10], [10, 30, 500, 8000], [20, 140]])
def test_worth_is_what_takes_as_long_as_another_forward_without_rows(works):
    assert warm(*works).worth(1) == pytest.approx(FIXED / PER_CELL)


def test_worth_of_a_spread_is_known_from_four_times_the_work_of_the_fastest_on():
    # Means of 40 and 39.5: the fastest had 10.
    assert warm(10, 70).worth(1000) == pytest.approx(100)
    assert warm(10, 69).worth(1000) == 250


def test_worth_where_larger_batches_take_no_longer_is_all_padding_there_may_be():
    assert warm(10, 1000, time=lambda work: 1e-3).worth(1000) == math.inf


def test_worth_where_a_forward_costs_nothing_is_no_padding():
    assert warm(10, 1000, time=lambda work: (work - 5) * 1e-5).worth(1000) == 0


def test_worth_follows_a_machine_that_has_become_slower():
    cost = warm(*[10, 500] * 64)
    learned(*[500] * 640, time=lambda work: FIXED + 3 * PER_CELL * work, cost=cost)
    # The fastest forward is remembered: 10 cells in 1.1 ms. Of the mean only the latest are left.
    assert cost.worth(1) == pytest.approx(26.2, rel=0.05)


def test_worth_of_two_forwards_counts_each_of_them_once():
    cost = warm(10, 1000, 1000)
    assert cost._mean_work == pytest.approx(670)
    assert cost._mean_seconds == pytest.approx((seconds(10) + 2 * seconds(1000)) / 3)
