import gc

import numpy as np
import pytest
from stand_in_kit import RecordingHost, open_host

from kindaware.testing.stand_in import (
    MetricRegistry,
    TritonContractError,
    attach_classes,
    new_c_module,
    new_module,
)

PREFIX = "Failed to process the request for model 'probe_0_0', message: "


@pytest.fixture
def family(pb):
    """Make families by kind; they live as long as the test."""
    kept = []

    def family(kind, name=None):
        kept.append(pb.MetricFamily(name or kind.lower(), "text", getattr(pb.MetricFamily, kind)))
        return kept[-1]

    return family


def fails(pb, call, text):
    with pytest.raises(pb.TritonModelException) as caught:
        call()
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "args", [(None, "d", "k"), ("n", None, "k"), ("n", "d", None), ("n", "d", 0), ("n", "d")]
)
def test_family_of_other_types_fails(pb, args):
    given = [pb.MetricFamily.COUNTER if arg == "k" else arg for arg in args]
    with pytest.raises(TypeError, match=r"^__init__\(\): incompatible constructor arguments"):
        pb.MetricFamily(*given)


@pytest.mark.parametrize("name", ["", "bad name", "1a", "__x", "a-b"])
def test_family_with_bad_name_fails(pb, name):
    fails(
        pb,
        lambda: pb.MetricFamily(name, "d", pb.MetricFamily.COUNTER),
        "Error when creating MetricFamily: " + PREFIX + "Invalid metric name",
    )


def test_family_of_the_same_name_shares_values_and_of_another_kind_fails(pb, family):
    family("GAUGE", ":x1").Metric({"a": "b"}).set(3)
    assert pb.MetricFamily(":x1", "other", pb.MetricFamily.GAUGE).Metric({"a": "b"}).value() == 3
    fails(
        pb,
        lambda: family("COUNTER", ":x1"),
        "Error when creating MetricFamily: " + PREFIX + "Family name already exists with different type",
    )


def test_family_is_shared_between_the_models_of_a_registry():
    registry = MetricRegistry()
    _, one, _ = open_host(metrics=registry)
    _, other, _ = open_host(metrics=registry)
    first = one.MetricFamily("n", "d", one.MetricFamily.COUNTER)
    second = other.MetricFamily("n", "d", other.MetricFamily.COUNTER)
    first.Metric().increment(2)
    second.Metric().increment(3)

    (sample,) = registry.samples()
    assert (sample.name, sample.kind, sample.labels, sample.value) == ("n", "COUNTER", {}, 5)
    assert (sample.num_observations, sample.bucket_counts) == (0, ())


def test_metric_with_equal_labels_is_another_object_with_the_same_value(family):
    counter = family("COUNTER")
    one, other = counter.Metric({"a": "1", "b": "2"}), counter.Metric(labels={"b": "2", "a": "1"})
    one.increment(2)
    assert one is not other
    assert other.value() == 2
    assert counter.Metric({"a": "1"}).value() == 0
    assert counter.Metric().value() == counter.Metric({}).value() == counter.Metric(None, None).value() == 0


def test_metric_value_survives_the_metric_but_not_the_last_family(pb):
    family = pb.MetricFamily("n", "d", pb.MetricFamily.GAUGE)
    family.Metric().set(4)
    gc.collect()
    assert family.Metric().value() == 4
    del family
    gc.collect()
    again = pb.MetricFamily("n", "d", pb.MetricFamily.GAUGE)
    assert again.Metric().value() == 0
    del again
    fails(
        pb,
        lambda: pb.MetricFamily("n", "d", pb.MetricFamily.COUNTER),
        "Error when creating MetricFamily: " + PREFIX + "Family name already exists with different type",
    )


def test_metric_without_its_family_fails(pb):
    metric = pb.MetricFamily("n", "d", pb.MetricFamily.GAUGE).Metric()
    gc.collect()
    orphan = "Invalid metric operation as the corresponding 'MetricFamily' has been deleted."
    for call, start in [
        (metric.value, "Failed to get metric value: "),
        (lambda: metric.set(1), "Failed to set metric"),
    ]:
        with pytest.raises(pb.TritonModelException) as caught:
            call()
        assert str(caught.value).startswith(start)
        assert orphan in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([1], "Failed to create metric. Labels must be a dictionary."),
        ({"a": 1}, "Error when creating Metric: " + PREFIX + "attempt to access JSON non-string as string"),
        (
            {"a": None},
            "Error when creating Metric: " + PREFIX + "attempt to access JSON non-string as string",
        ),
        ({"a b": "x"}, "Error when creating Metric: " + PREFIX + "Invalid label name"),
        ({"__x": "x"}, "Error when creating Metric: " + PREFIX + "Invalid label name"),
        ({"": "x"}, "Error when creating Metric: " + PREFIX + "Invalid label name"),
        ({1: "x"}, "Error when creating Metric: " + PREFIX + "Invalid label name"),
    ],
)
def test_metric_with_bad_labels_fails(pb, family, labels, text):
    fails(pb, lambda: family("COUNTER").Metric(labels), text)


@pytest.mark.parametrize(
    ("kind", "buckets", "text"),
    [
        ("HISTOGRAM", None, "Failed to create metric. Missing required buckets."),
        ("HISTOGRAM", (1.0,), "Failed to create metric. Buckets must be a list."),
        ("HISTOGRAM", np.array([1.0]), "Failed to create metric. Buckets must be a list."),
        ("COUNTER", [1.0], "Failed to create metric. Unexpected buckets found."),
        ("GAUGE", [], "Failed to create metric. Unexpected buckets found."),
        (
            "HISTOGRAM",
            [2.0, 1.0],
            "Error when creating Metric: " + PREFIX + "Bucket Boundaries must be strictly sorted",
        ),
        (
            "HISTOGRAM",
            [1.0, 1.0],
            "Error when creating Metric: " + PREFIX + "Bucket Boundaries must be strictly sorted",
        ),
    ],
)
def test_metric_with_bad_buckets_fails(pb, family, kind, buckets, text):
    fails(pb, lambda: family(kind).Metric(buckets=buckets), text)


def test_metric_with_buckets_of_other_types_fails(family):
    with pytest.raises(RuntimeError, match="Unable to cast Python instance"):
        family("HISTOGRAM").Metric(buckets=["a"])


def test_histogram_counts_up_to_each_boundary(host, family):
    histogram = family("HISTOGRAM").Metric({"le": "x"}, [1, True + 1, np.float32(5)])
    for value in (1.0, 2, 100):
        histogram.observe(value)
    (sample,) = host.metrics.samples()
    assert (sample.value, sample.num_observations, sample.bucket_counts) == (103, 3, (1, 2, 2, 3))
    family("HISTOGRAM").Metric(buckets=[])
    assert host.metrics.samples()[0].bucket_counts == (0,)


def test_counter_and_gauge_do_what_their_kind_does(family):
    counter, gauge = family("COUNTER").Metric(), family("GAUGE").Metric()
    for value in (1, True, np.float32(2), 0):
        counter.increment(value)
    gauge.set(5)
    gauge.increment(-2)
    assert (counter.value(), gauge.value(), type(gauge.value())) == (4.0, 3.0, float)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("COUNTER", "set"),
        ("COUNTER", "observe"),
        ("GAUGE", "observe"),
        ("HISTOGRAM", "set"),
        ("HISTOGRAM", "increment"),
    ],
)
def test_metric_operations_of_other_kinds_fail(pb, family, kind, name):
    metric = family(kind).Metric(buckets=[1.0] if kind == "HISTOGRAM" else None)
    reason = f"TRITONSERVER_METRIC_KIND_{kind} does not support {name.capitalize()}"
    fails(pb, lambda: getattr(metric, name)(1), f"Failed to {name} metric value: {PREFIX}{reason}")


def test_histogram_has_no_value_and_counters_never_shrink(pb, family):
    fails(
        pb,
        family("HISTOGRAM").Metric(buckets=[]).value,
        f"Failed to get metric value: {PREFIX}TRITONSERVER_METRIC_KIND_HISTOGRAM does not support Value",
    )
    counter = family("COUNTER").Metric()
    fails(
        pb,
        lambda: counter.increment(-1),
        f"Failed to increment metric value: {PREFIX}TRITONSERVER_METRIC_KIND_COUNTER can only be incremented "
        "monotonically by non-negative values.",
    )
    assert counter.value() == 0


@pytest.mark.parametrize("value", ["1", None, [1]])
def test_metric_operations_take_numbers_by_position_only(family, value):
    gauge = family("GAUGE").Metric()
    with pytest.raises(TypeError, match=r"^set\(\): incompatible function arguments"):
        gauge.set(value)
    with pytest.raises(TypeError, match=r"^set\(\): incompatible function arguments"):
        gauge.set(value=1)


@pytest.mark.parametrize("phase", ["import", "auto_complete"])
def test_family_before_construction_is_a_contract_error(phase):
    host = RecordingHost()
    pb = new_module(host)
    attach_classes(pb, new_c_module(host), host)
    host.phase = phase
    with pytest.raises(
        TritonContractError, match="the server would never answer: MetricFamily is called while"
    ):
        pb.MetricFamily("n", "d", pb.MetricFamily.GAUGE)
    assert len(host.violations) == 1
