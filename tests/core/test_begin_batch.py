"""`begin_batch`: several requests that begin together, each with its own state, items and errors."""

import itertools

import pytest
import torch
from core_kit import start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from step_kit import Counter, Values, number, open_harness, until

from kindaware import ConfigError, Done, KindAwareModel, Next, RequestError
from kindaware._batch.request_context import current_context
from searches import examples

REFUSED, NAMED, GUILTY, AT_ONCE, RETURNED, UNFIT, TOO_LARGE = 91, 92, 93, 94, 95, 96, 97
"""Requests that `preprocess` refuses, that `begin_batch` names, or raises for without a name, that are done
at once, refused by what is returned, and for which there is no memory beside others, or never."""


class Together(Values):
    """Counts from 0 to N; the first item is sent by `begin`. Notes who began together, and who alone."""

    def load(self):
        super().load()
        self.groups = []
        self.waits = False
        self.infos = []

    def preprocess(self, inputs):
        if int(inputs["N"][0, 0]) == REFUSED:
            raise RequestError("no such number")
        return inputs

    def begin(self, N):
        self.groups.append([int(N[0, 0])])
        return self.result_of(int(N[0, 0]))

    def begin_batch(self, inputs, requests):
        last = [int(one["N"][0, 0]) for one in inputs]
        self.groups.append(list(last))
        self.infos.append([one.id for one in requests])
        assert len(last) > 1
        if NAMED in last:
            raise RequestError("named", rows=[row for row, one in enumerate(last) if one == NAMED])
        if TOO_LARGE in last or (UNFIT in last and len(last) > 2):
            raise torch.OutOfMemoryError("full")
        return [RequestError("returned") if one == RETURNED else self.result_of(one) for one in last]

    def result_of(self, last):
        if last in (NAMED, RETURNED):
            raise RequestError("alone")
        if last == GUILTY:
            raise ValueError("guilty")
        if last == TOO_LARGE:
            raise torch.OutOfMemoryError("full")
        if last == AT_ONCE:
            return Done(number(77))
        return Next(Counter(last % 10, 1), number(0)) if last % 10 else Counter(0, 0)

    def step(self, states):
        until(lambda: not self.waits)
        return super().step(states)


def send(model, numbers):
    """Answer requests that arrive while a step runs, so that they wait together."""
    instance = model.instance
    instance.waits = True
    instance.groups.clear()
    first = model.stream(N=[[9]])
    until(lambda: instance.groups)
    instance.groups.clear()
    streams = [model.stream(N=[[one]], request_id=str(place)) for place, one in enumerate(numbers)]
    handed_over = instance._kindaware_instance._steps._thread._functions
    until(lambda: handed_over.qsize() == len(numbers))
    instance.waits = False
    results = [list(stream) for stream in streams]
    assert items(first) == list(range(9))
    return results


def open_together(model_class=Together, **values):
    values = {"max_begins_per_step": 16, "warmup": "off", **values}
    return open_harness(
        model_class, parameters={f"kindaware.{name}": str(one) for name, one in values.items()}
    )


def texts(results):
    return [one.error.message() for one in results if one.error is not None]


def items(results):
    return [one.outputs["I"].item() for one in results if one.outputs]


def expected(one):
    """The items of a request, and a part of its error."""
    if one == AT_ONCE:
        return [77], None
    error = {REFUSED: "no such number", GUILTY: "guilty", RETURNED: "returned", TOO_LARGE: "full"}.get(one)
    if one == NAMED:
        error = "named"
    return ([] if error else list(range(one % 10))), error


def assert_answers(numbers, answers, alone=()):
    for one, results in zip(numbers, answers, strict=True):
        wanted, error = expected(one)
        assert items(results) == wanted
        found = texts(results)
        assert len(found) == (error is not None)
        # Named alone, it is `begin` that refuses it.
        assert all(error in text or "alone" in text for text in found)


def test_requests_that_wait_begin_together_in_order_and_are_sent_what_is_theirs():
    with open_together() as model:
        answers = send(model, [3, 1, 4, 2])
        assert_answers([3, 1, 4, 2], answers)
        assert model.instance.groups == [[3, 1, 4, 2]]
        assert model.instance.infos == [["0", "1", "2", "3"]]


def test_no_more_begin_together_than_may_begin_per_step():
    with open_together(max_begins_per_step=2) as model:
        numbers = [3, 1, 4, 2, 5]
        assert_answers(numbers, send(model, numbers[:2]) + send(model, numbers[2:]))
        assert max(map(len, model.instance.groups)) <= 2


def test_request_that_waits_alone_begins_by_begin():
    with open_together() as model:
        assert_answers([3], send(model, [3]))
        assert model.instance.groups == [[3]]
        assert model.instance.infos == []


@pytest.mark.parametrize(
    ("numbers", "groups"),
    [
        ([3, REFUSED, 4, 2], [[3, 4, 2]]),
        ([REFUSED, 4], [[4]]),
        ([REFUSED, REFUSED], []),
        ([3, RETURNED, 4, 2], [[3, RETURNED, 4, 2]]),
        ([3, AT_ONCE, 4, 2], [[3, AT_ONCE, 4, 2]]),
        ([3, NAMED, 4, 2], [[3, NAMED, 4, 2], [3, 4, 2]]),
        ([3, GUILTY, 4, 2], [[3, GUILTY, 4, 2], [3, GUILTY], [4, 2], [3], [GUILTY]]),
    ],
    ids=str,
)
def test_request_that_fails_at_its_begin_fails_alone(numbers, groups):
    with open_together() as model:
        assert_answers(numbers, send(model, numbers))
        assert model.instance.groups == groups
        # Whoever has a state has an end: the one before them, and those that go on after their begin.
        num_states = 1 + sum(one < 10 for one in numbers)
        until(lambda: len(model.instance.ended) == num_states)


def test_steps_go_in_the_order_of_arrival_whoever_began_again():
    class Ordered(Together):
        def step(self, states):
            self.orders = [*getattr(self, "orders", []), [one.last for one in states]]
            return super().step(states)

    with open_together(Ordered) as model:
        send(model, [3, 5, 6, GUILTY, 4, 7, 8, 2])
        assert [3, 5, 6, 4, 7, 8, 2] in [order[-7:] for order in model.instance.orders]


def test_without_isolation_all_that_began_together_fail():
    with open_together(isolate_errors="false") as model:
        answers = send(model, [3, GUILTY, 4])
        assert [["guilty" in text for text in texts(one)] for one in answers] == [[True]] * 3
        assert model.instance.groups == [[3, GUILTY, 4]]


def test_requests_for_which_memory_runs_out_wait_and_begin_in_order():
    with open_together() as model:
        numbers = [3, UNFIT, 4, 2]
        assert_answers(numbers, send(model, numbers))
        groups = [one for one in model.instance.groups if len(one) < 3]
        assert groups[0] == [3, UNFIT]
        assert list(itertools.chain.from_iterable(groups)) == numbers
        assert model.instance._kindaware_instance._counters.preemptions >= 1


@pytest.mark.parametrize("numbers", [[3, TOO_LARGE, 4], [TOO_LARGE]], ids=str)
def test_request_that_never_fits_fails_when_no_other_is_open(numbers):
    with open_together() as model:
        assert_answers(numbers, send(model, numbers))
        # Beside others, and then alone.
        assert model.instance.groups.count([TOO_LARGE]) >= 2
        assert model.instance._kindaware_instance._steps._begins._placed == {}


@pytest.mark.parametrize(
    ("returned", "got"),
    [(lambda inputs: inputs[:1], "1"), (lambda inputs: None, "a NoneType"), (lambda inputs: {}, "a dict")],
)
def test_begin_batch_that_returns_something_else_fails_its_requests_once(returned, got):
    class Wrong(Together):
        def begin_batch(self, inputs):
            return returned(inputs)

    with open_together(Wrong) as model:
        answers = send(model, [3, 4])
        text = f"model 's' begin_batch: expected a list of 2 results, one per request, got {got}; return for"
        assert [text in one for found in answers for one in texts(found)] == [True] * 2
        assert model.log_text().count("failed 2 request(s)") == 1


def test_begin_batch_mask_of_another_length_is_reported():
    class Wrong(Together):
        def begin_batch(self, inputs):
            raise RequestError("masked", rows=[True] * 3)

    with open_together(Wrong) as model:
        (found,), (other,) = map(texts, send(model, [3, 4]))
        assert found == other
        assert "with one boolean for each of the 2 requests, got 3 booleans" in found


def test_begin_batch_gets_mappings_that_it_may_change():
    class Changes(Together):
        def begin_batch(self, inputs):
            last = [int(one.pop("N")[0, 0]) for one in inputs]
            if GUILTY in last:
                raise ValueError("guilty")
            return [self.result_of(one) for one in last]

    with open_together(Changes) as model:
        assert_answers([3, GUILTY, 4], send(model, [3, GUILTY, 4]))


def test_warm_up_begins_two_streams_together_unless_one_is_the_most():
    with open_together(warmup="1,3") as model:
        assert model.instance.groups == [[0], [0, 0, 0]]
    parameters = {"kindaware.max_streams": "5"}
    with open_harness(Together, parameters=parameters) as model:
        assert model.instance.groups == [[0], [0, 0]]
    with open_harness(Together, parameters={"kindaware.max_streams": "1"}) as model:
        assert model.instance.groups == [[0]]


def test_warm_up_that_begin_batch_refuses_is_skipped():
    class Refuses(Together):
        def begin_batch(self, inputs):
            return [RequestError("no zeros") for _ in inputs]

    with open_harness(Refuses, parameters={}) as model:
        assert "warm-up skipped (zeros are refused: no zeros; " in model.log_text()


def test_begin_batch_without_step_is_refused():
    class Lacks(KindAwareModel):
        def load(self):
            """Make nothing."""

        def begin_batch(self, inputs):
            return inputs

        def forward(self, N):
            return N

    with pytest.raises(ConfigError, match="hook begin_batch: expected no forward beside it, got both"):
        start(Lacks)


def test_begin_batch_is_a_stage_of_its_own_where_there_is_one():
    for model_class, methods in ((Together, ["begin", "begin_together"]), (Values, ["begin"])):
        with open_together(model_class) as model:
            stages = list(model.instance._kindaware_instance.stages())
        assert [one.method for one in stages if one.method.startswith("begin")] == methods


def test_begin_batch_runs_for_its_requests():
    class Asking(Together):
        def begin_batch(self, inputs, requests):
            self.seen = current_context().request_id
            return super().begin_batch(inputs, requests)

    with open_together(Asking) as model:
        send(model, [3, 4])
        assert model.instance.seen == "0"


def test_begin_batch_takes_one_argument():
    class Takes(Values):
        def begin_batch(self, inputs, more):
            return inputs

    with pytest.raises(Exception, match=r"hook begin_batch\(self, inputs, more\)"), open_harness(Takes):
        pass


KINDS = [0, 1, 3, 12, 25, REFUSED, NAMED, GUILTY, AT_ONCE, RETURNED, UNFIT]


@pytest.fixture(scope="module", params=[1, 3, 8], ids="at most {}".format)
def served(request):
    with open_together(max_begins_per_step=request.param, max_streams=6, max_isolation=1) as model:
        yield model


# One that has to be looked for at most: a search for several may end before it has found them all.
@given(
    numbers=st.lists(st.sampled_from(KINDS), min_size=1, max_size=12).filter(
        lambda numbers: numbers.count(GUILTY) <= 1
    )
)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
def test_each_request_gets_its_own_whoever_begins_with_it(served, numbers):
    streams = [served.stream(N=[[one]]) for one in numbers]
    assert_answers(numbers, [list(stream) for stream in streams])
