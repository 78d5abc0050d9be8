"""How many replicas there are to be, and what each reports for that."""

from types import SimpleNamespace

import pytest

from kindaware.ray import PendingRequests
from kindaware.ray._load_meter import LoadMeter, count_instances


def decide(pending, busy, *, target=None, lowest=1, highest=10, target_pending=8):
    """Decide for replicas that report these; `busy` may be shorter for replicas that don't."""
    context = SimpleNamespace(
        aggregated_metrics={"pending": dict(enumerate(pending)), "busy": dict(enumerate(busy))},
        current_num_replicas=len(pending),
        target_num_replicas=len(pending) if target is None else target,
        capacity_adjusted_min_replicas=lowest,
        capacity_adjusted_max_replicas=highest,
    )
    return PendingRequests(target_pending=target_pending)(context)[0]


@pytest.mark.parametrize(
    ("pending", "busy", "wanted"),
    [
        ([8], [1.0], 1),
        ([8.1], [1.0], 2),
        ([40], [1.0], 5),
        ([200], [1.0], 10),
        ([16, 1], [1.0, 1.0], 3),
        ([0, 0, 0], [0.9, 0.9, 0.9], 3),
        ([0, 0, 0], [0.5, 0.5, 0.4], 2),
        ([0, 0, 0], [0.0, 0.0, 0.0], 1),
        ([0], [1.0], 1),
    ],
)
def test_more_for_what_waits_and_fewer_for_what_is_idle(pending, busy, wanted):
    assert decide(pending, busy) == wanted


def test_no_fewer_while_one_does_not_report():
    assert decide([0, 0], [0.0]) == 2
    assert decide([0, 0], [0.0, 0.0]) == 1


def test_no_fewer_before_any_has_reported():
    context = SimpleNamespace(
        aggregated_metrics={},
        current_num_replicas=3,
        target_num_replicas=3,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=4,
    )
    assert PendingRequests()(context) == (3, {})


def test_limits_of_the_deployment_hold():
    assert decide([0], [0.0], lowest=2) == 2
    assert decide([100], [1.0], highest=4) == 4


METRICS = """
# HELP nv_inference_pending_request_count Number of pending requests
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="a",version="1"} 3
nv_inference_pending_request_count{model="b",version="1"} 4.000000
nv_inference_exec_count{model="b",version="1"} 100
"""


def batches(model, seconds):
    parts = {part: {"count": 1, "ns": int(seconds * 1e9 / 2)} for part in ("compute_input", "compute_infer")}
    return {"name": model, "version": "1", "batch_stats": [{"batch_size": 1, **parts}]}


def test_meter_adds_up_what_waits_and_takes_the_busiest_model():
    now = iter([0.0, 10.0, 20.0])
    meter = LoadMeter({"a": 1, "b": 2}, clock=lambda: next(now))
    assert meter.read(METRICS, [batches("a", 100), batches("b", 100)]) == {"pending": 7.0, "busy": 0.0}
    assert meter.read(METRICS, [batches("a", 105), batches("b", 112)])["busy"] == pytest.approx(0.6)
    assert meter.read("", [batches("a", 105), batches("b", 112)]) == {"pending": 0.0, "busy": 0.0}


def test_meter_adds_up_the_versions_of_a_model():
    now = iter([0.0, 10.0])
    meter = LoadMeter({"a": 2}, clock=lambda: next(now))
    meter.read("", [batches("a", 0), batches("a", 0)])
    assert meter.read("", [batches("a", 4), batches("a", 6)])["busy"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("groups", "number"),
    [
        ([{"count": 2, "gpus": []}], 2),
        ([{"count": 2, "gpus": [0, 1]}, {"count": 1}], 5),
        ([], 1),
    ],
)
def test_instances_are_counted_per_gpu(groups, number):
    assert count_instances({"instance_group": groups}) == number
