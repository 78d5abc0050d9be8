"""How much of its time an instance spends on looking for faulty requests, and what all get beyond that."""

from types import SimpleNamespace

import pytest
from core_kit import BAD, Clock, Forward, answers_of, make_pipeline, make_spec, run, without_id

from kindaware import RequestError, TensorSpec
from kindaware._batch.isolation_budget import BURST_SECONDS, IsolationBudget

UNSEARCHED = (
    "model 'm' request '{}': expected time to find the request that forward raises for, got more than 0.5 of "
    "it spent on such searches (max_isolation); send it again, or see error ID in the server's log"
)


@pytest.fixture
def clock(monkeypatch):
    """The clock of the pipeline and of its budget."""
    clock = Clock()
    monkeypatch.setattr("kindaware._batch.pipeline.time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(IsolationBudget.__init__, "__defaults__", (clock,))
    return clock


class Timed(Forward):
    """Takes a second, or as long as it is told to."""

    def __init__(self, clock, seconds=1.0, **options):
        super().__init__(**options)
        self.clock, self.seconds = clock, seconds

    def __call__(self, X):
        self.clock.now += self.seconds
        return super().__call__(X)


def test_budget_allows_a_burst_and_then_its_share():
    clock = Clock()
    budget = IsolationBudget(0.25, clock)
    assert budget.allows()
    budget.spend(BURST_SECONDS + 1)
    assert not budget.allows()
    clock.now += 4.0
    assert not budget.allows()
    clock.now += 0.01
    assert budget.allows()
    clock.now += 1e6
    budget.allows()
    budget.spend(BURST_SECONDS)
    assert not budget.allows()


@pytest.mark.parametrize(("share", "allows"), [(0.0, False), (1.0, True)])
def test_budget_of_nothing_and_of_everything(share, allows):
    clock = Clock()
    budget = IsolationBudget(share, clock)
    for _ in range(3):
        assert budget.allows() is allows
        budget.spend(100.0)
        clock.now += 1.0


def test_run_a_search_that_has_begun_is_finished_however_slow_the_model_is(clock):
    forward = Timed(clock, seconds=60.0)
    assert answers_of(run(make_pipeline(forward), [1, 2, 3, BAD])) == [2, 4, 6, "INTERNAL"]


def test_run_beyond_the_budget_all_of_a_batch_are_told_to_send_again(clock, caplog):
    forward = Timed(clock, seconds=60.0)
    pipeline = make_pipeline(forward)
    run(pipeline, [1, BAD])
    forward.batches.clear()
    caplog.clear()
    outcomes = run(pipeline, [1, BAD, 3])
    assert forward.batches == [3]
    assert answers_of(outcomes) == ["UNAVAILABLE"] * 3
    assert [without_id(one.text) for one in outcomes] == [UNSEARCHED.format(n) for n in range(3)]
    [record] = caplog.records
    assert "failed 3 request(s), ids ['0', '1', '2']" in record.getMessage()
    assert "ValueError: bad row" in record.getMessage()
    assert pipeline.runner.counters.errors == {"INTERNAL": 1, "UNAVAILABLE": 3}


def test_run_beyond_the_budget_a_request_alone_has_its_error_and_batches_without_one_their_answers(clock):
    forward = Timed(clock, seconds=60.0)
    pipeline = make_pipeline(forward)
    run(pipeline, [1, BAD])
    assert answers_of(run(pipeline, [BAD])) == ["INTERNAL"]
    assert answers_of(run(pipeline, [1, 2])) == [2, 4]


def test_run_the_budget_comes_back_with_time(clock):
    forward = Timed(clock, seconds=60.0)
    pipeline = make_pipeline(forward)
    run(pipeline, [1, BAD])
    clock.now += 1000.0
    assert answers_of(run(pipeline, [1, BAD])) == [2, "INTERNAL"]


def test_run_rows_that_an_error_names_are_no_search(clock):
    class Names(Timed):
        def __call__(self, X):
            self.raises = lambda: RequestError("bad", rows=(X == BAD).any(dim=1))
            return super().__call__(X)

    pipeline = make_pipeline(Names(clock, seconds=1000.0), max_isolation=0.0)
    for _ in range(3):
        assert answers_of(run(pipeline, [1, BAD])) == [2, "INVALID_ARG"]


def test_run_halving_for_memory_is_no_search(clock):
    def forward(X):
        clock.now += 1000.0
        if len(X) > 1:
            raise RuntimeError("CUDA error: out of memory")
        return 2 * X

    pipeline = make_pipeline(forward, max_isolation=0.0)
    for _ in range(3):
        assert answers_of(run(pipeline, [1, 2, 3])) == [2, 4, 6]


def test_run_refusal_that_names_no_row_is_not_passed_on_to_the_innocent(clock):
    forward = Timed(clock, error=RequestError, text="yours is bad")
    outcomes = run(make_pipeline(forward, max_isolation=0.0), [1, BAD])
    assert answers_of(outcomes) == ["UNAVAILABLE"] * 2
    assert not any("yours is bad" in one.text for one in outcomes)


def test_run_beyond_the_budget_a_shape_is_not_tried_with_zeros(clock):
    class Picky(Timed):
        def __call__(self, X):
            self.batches.append(len(X))
            self.clock.now += self.seconds
            if X.shape[1] == 3:
                raise ValueError("three")
            return X

    spec = make_spec(inputs=[TensorSpec("X", "FP32", [-1])], outputs=[TensorSpec("Y", "FP32", [-1])])
    forward = Picky(clock, seconds=60.0)
    pipeline = make_pipeline(forward, spec=spec, max_isolation=0.1)
    assert answers_of(run(pipeline, [1], width=3)) == ["INVALID_ARG"]
    assert answers_of(run(pipeline, [1], width=3)) == ["INTERNAL"]
    assert forward.batches == [1, 1, 1]
