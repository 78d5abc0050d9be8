"""The dashboard and the rules: their form, and that Prometheus can read each of their expressions."""

import itertools
import re
import subprocess

import pytest
from observability_kit import FOLDER, list_panels, list_queries, metrics_of, read_dashboard
from prometheus_kit import find

from kindaware._batch.counters import FAMILIES

TRITON = {
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
    "nv_inference_pending_request_count",
    "nv_cpu_utilization",
    "nv_cpu_memory_used_bytes",
    "nv_gpu_utilization",
    "nv_gpu_memory_used_bytes",
}
"""Triton's own, those of a GPU as its documentation has them."""

OWN = {family.name for family in FAMILIES.values()}
RULES = (FOLDER / "rules.yml").read_text()

TESTS = """
rule_files: [{rules}]
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - series: 'up{{job="triton", instance="s"}}'
        values: "1x20 0x20"
      - series: 'nv_inference_request_success{{instance="s", model="m", version="1"}}'
        values: "0+15x80"
      - series: 'nv_inference_request_failure{{instance="s", model="m", version="1", reason="BACKEND"}}'
        values: "0x20 0+15x60"
      - series: 'nv_inference_request_duration_us{{instance="s", model="m", version="1"}}'
        values: "0+6000000x80"
      - series: 'nv_inference_queue_duration_us{{instance="s", model="m", version="1"}}'
        values: "0+4500000x80"
      - series: 'nv_inference_request_success{{instance="s", model="dead", version="1"}}'
        values: "5x80"
      - series: 'nv_inference_request_failure{{instance="s", model="dead", version="1", reason="BACKEND"}}'
        values: "0+15x80"
      - series: 'kindaware_errors_total{{instance="s", model="m", version="1", code="INTERNAL"}}'
        values: "0+15x80"
      - series: 'kindaware_errors_total{{instance="s", model="m", version="1", code="INVALID_ARG"}}'
        values: "0+15x80"
      - series: 'kindaware_stage_seconds_total{{instance="s", model="m", version="1", stage="forward",
                 exported_instance="m_0_0", device="cpu"}}'
        values: "0+14.0625x80"
    promql_expr_test:
      - expr: model:triton_request_seconds:mean5m{{model="m"}}
        eval_time: 5m
        exp_samples:
          - labels: 'model:triton_request_seconds:mean5m{{instance="s", model="m", version="1"}}'
            value: 0.4
      - expr: round(instance:kindaware_busy:ratio5m * 10000)
        eval_time: 5m
        exp_samples:
          - labels: '{{instance="s", model="m", version="1", exported_instance="m_0_0", device="cpu"}}'
            value: 9375
    alert_rule_test:
{alerts}
"""


@pytest.fixture(scope="module")
def promtool():
    return find("promtool")


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_panels_have_names_and_places_of_their_own():
    panels = read_dashboard()["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    assert len({one["title"] for one in panels}) == len(panels) - 1  # a row is named after its only panel
    places = [one["gridPos"] for one in panels]
    cells = list(
        itertools.chain.from_iterable(
            itertools.product(range(one["x"], one["x"] + one["w"]), range(one["y"], one["y"] + one["h"]))
            for one in places
        )
    )
    assert len(set(cells)) == len(cells), "two panels overlap"
    assert max(x for x, _ in cells) < 24


def test_every_panel_asks_the_chosen_data_source_and_says_in_which_unit():
    variables = {one["name"] for one in read_dashboard()["templating"]["list"]}
    assert variables == {"datasource", "server", "model"}
    for panel in list_panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [one["refId"] for one in panel["targets"]] == list("ABCD")[: len(panel["targets"])]
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"]
    used = set(re.findall(r"\$(\w+)", " ".join(one["expr"] for p in list_panels() for one in p["targets"])))
    assert used == {"server", "model", "__rate_interval"}


def test_each_metric_of_a_query_or_rule_is_one_that_there_is():
    named = set().union(*(metrics_of(expression) for _, expression in list_queries()), metrics_of(RULES))
    assert named <= TRITON | OWN
    # Each of the library's own is shown.
    assert named >= OWN - {"kindaware_requests_total"}


def test_prometheus_can_parse_every_query(promtool, tmp_path):
    rules = [f"      - record: q{n}\n        expr: {expr!r}\n" for n, (_, expr) in enumerate(list_queries())]
    path = tmp_path / "queries.yml"
    path.write_text("groups:\n  - name: dashboard\n    rules:\n" + "".join(rules))
    assert f"SUCCESS: {len(rules)} rules found" in run(promtool, "check", "rules", path)


def test_rules_and_configuration_are_ones_that_prometheus_takes(promtool):
    assert "SUCCESS" in run(promtool, "check", "config", FOLDER / "prometheus.yml")


@pytest.mark.parametrize(
    ("alert", "minutes", "labels"),
    [
        ("TritonDown", 4, None),
        ("TritonDown", 7, {"job": "triton", "severity": "critical", "instance": "s"}),
        ("TritonModelFailing", 4, None),
        ("TritonModelFailing", 15, {"model": "m"}),
        ("TritonModelAnswersNothing", 5, {"model": "dead", "severity": "critical"}),
        ("TritonQueueLong", 9, None),
        ("TritonQueueLong", 12, {"model": "m"}),
        ("KindawareModelRaises", 7, {"model": "m", "code": "INTERNAL"}),
        ("KindawareInstancesBusy", 9, None),
        ("KindawareInstancesBusy", 16, {"model": "m"}),
        ("KindawareUnavailable", 12, None),
        ("KindawareOutOfMemory", 12, None),
    ],
)
def test_alerts_fire_when_they_should(promtool, tmp_path, alert, minutes, labels):
    out = run_rules(promtool, tmp_path, alert, minutes)
    found = re.search(r"got:(\[.*)", out, re.DOTALL)
    text = found[1] if found else ""
    if labels is None:
        assert "Labels:" not in text, out
    else:
        assert all(f'{name}="{value}"' in text for name, value in labels.items()), out


def test_recorded_figures_are_what_their_names_say(promtool, tmp_path):
    path = tmp_path / "tests.yml"
    path.write_text(TESTS.format(rules=FOLDER / "rules.yml", alerts="      []"))
    assert "SUCCESS" in run(promtool, "test", "rules", path)


def run_rules(promtool, folder, alert, minutes):
    """What promtool says about an alert that is expected with a label that it never has."""
    expected = (
        f"      - {{eval_time: {minutes}m, alertname: {alert}, exp_alerts: [{{exp_labels: {{no: one}}}}]}}"
    )
    path = folder / "tests.yml"
    path.write_text(TESTS.format(rules=FOLDER / "rules.yml", alerts=expected))
    done = subprocess.run(
        [promtool, "test", "rules", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode, "no alert has such a label"
    return done.stdout + done.stderr
