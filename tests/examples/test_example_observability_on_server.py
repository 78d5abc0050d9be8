"""The dashboard's queries and the rules, on a real Prometheus that scrapes a real server under load."""

import contextlib
import math
import re
import threading
import time

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from observability_kit import FOLDER, list_queries
from prometheus_kit import run_prometheus
from tritonclient.utils import InferenceServerException

from kindaware.testing import TritonServer

pytestmark = pytest.mark.server

CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 8
input [ {{ name: "X" data_type: TYPE_INT32 dims: [ 1 ] }} ]
output [ {{ name: "Y" data_type: TYPE_INT32 dims: [ 1 ] }} ]
instance_group [ {{ kind: KIND_CPU }} ]
{more}
"""
MODEL = """
from kindaware import KindAwareModel

class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, X):
        if (X < 0).any():
            raise ValueError("X is negative")
        return X
"""
COUNTER = """
from kindaware import Done, KindAwareModel, Next

class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def begin(self, X):
        return int(X[0, 0]), X

    def step(self, states):
        return [Next((left - 1, X), X) if left > 1 else Done(X) for left, X in states]
"""
ABSENT = (
    "nv_gpu_",
    "kindaware_copied_bytes_total",
    "kindaware_retries_total",
    "kindaware_out_of_memory_total",
    "kindaware_preemptions_total",
    "kindaware_waiting_streams",
    "ALERTS",
)
"""What has no series without a GPU, and as long as it has never happened."""


def request(value):
    return [grpcclient.InferInput("X", [1, 1], "INT32").set_data_from_numpy(np.array([[value]], np.int32))]


def put_load(url, stopped):
    """Send requests, one in ten of which fails, and streams, until stopped."""
    with grpcclient.InferenceServerClient(url) as client:
        client.start_stream(lambda result, error: None)
        number = 0
        while not stopped.wait(0.01):
            number += 1
            with contextlib.suppress(InferenceServerException):
                client.infer("plain", request(-1 if number % 10 == 0 else 1))
            if number % 10 == 0:
                client.async_stream_infer("steps", request(5))
        client.stop_stream()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """A Prometheus that has scraped a server under load for some seconds."""
    folder = tmp_path_factory.mktemp("observability")
    decoupled = "model_transaction_policy { decoupled: true }"
    for name, code, more in (("plain", MODEL, "dynamic_batching { }"), ("steps", COUNTER, decoupled)):
        model = folder / "models" / name
        (model / "1").mkdir(parents=True)
        (model / "config.pbtxt").write_text(CONFIG.format(name=name, more=more))
        (model / "1/model.py").write_text(code)
    stopped = threading.Event()
    with TritonServer(folder / "models", args=["--disable-auto-complete-config"]) as server:
        config = (FOLDER / "prometheus.yml").read_text().replace("localhost:8002", server.metrics_url)
        config = config.replace("rules.yml", str(FOLDER / "rules.yml")).replace("15s", "1s")
        with run_prometheus(folder, config) as running:
            loads = threading.Thread(target=put_load, args=(server.grpc_url, stopped))
            loads.start()
            try:
                running.wait_for('kindaware_errors_total{code="INTERNAL"} > 1')
                running.wait_for("rate(kindaware_item_seconds_total[10s]) > 0")
                time.sleep(5)  # some scrapes more, for rates
                yield running
            finally:
                stopped.set()
                loads.join()


def test_each_query_of_the_dashboard_has_series_and_numbers(prometheus):
    without = []
    for title, expression in list_queries(interval="10s"):
        found = prometheus.query(expression)
        assert "item" in expression or not any(math.isnan(number) for _, number in found), expression
        if not found and not any(name in expression for name in ABSENT):
            without.append((title, expression))
    assert without == []


def test_the_figures_are_those_of_the_load(prometheus):
    (labels, rate), *_ = prometheus.query('sum by (code) (rate(kindaware_errors_total{model="plain"}[10s]))')
    assert (labels, rate > 1) == ({"code": "INTERNAL"}, True)
    ((_, rows),) = prometheus.query(
        "sum(rate(kindaware_items_total[10s])) / sum(rate(kindaware_first_items_total[10s]))"
    )
    assert rows == pytest.approx(5, rel=0.3)


def test_the_rules_are_evaluated_without_an_error_and_record_figures(prometheus):
    prometheus.wait_for("model:triton_request_seconds:mean5m > 0")
    groups = prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(re.findall(r"- (?:record|alert):", (FOLDER / "rules.yml").read_text()))
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    for rule in rules:
        if rule["type"] == "recording":
            assert prometheus.query(rule["name"]), rule["name"]
    # Hooks have raised for some seconds: the alert waits for five minutes of that.
    assert {rule["state"] for rule in rules if rule["name"] == "KindawareModelRaises"} == {"pending"}
