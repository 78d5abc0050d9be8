"""The lines of JSON that instances log, and what they belong to."""

import json

import pytest
from core_kit import Doubler, make_args, written_config
from trace_kit import ON, install, traceparent

from kindaware import ConfigError
from kindaware._server.log import read_instances, read_records
from kindaware._triton.json_lines import LOG_FORMAT
from kindaware.testing import ModelHarness


class Talking(Doubler):
    """Logs in forward, and raises for numbers above 100."""

    def forward(self, X):
        self.logger.info('X is "%s"\n', tuple(X.shape))
        if (X > 100).any():
            raise ValueError("X is too large")
        return X


@pytest.fixture(autouse=True)
def _json(monkeypatch):
    monkeypatch.setenv(LOG_FORMAT, "json")


def lines(requests, **parameters):
    install()
    options = {"config": written_config(2), "parameters": {"kindaware.warmup": "off", **parameters}}
    with ModelHarness(Talking, raise_errors=False, **options) as model:
        model.infer_batch(requests)
        return [json.loads(one.text) for one in model.logs if one.text.startswith("{")]


def sent(value, name):
    return {
        "inputs": {"X": [[value, value]]},
        "request_id": name,
        "parameters": {"traceparent": traceparent(1)},
    }


def test_a_line_of_a_hook_has_the_instance_and_the_requests_of_the_batch():
    ready, line = lines([sent(1, "a"), sent(2, "b")])
    assert line.pop("time") > ready["time"]
    assert line == {
        "level": "info",
        "model": "m",
        "version": "1",
        "instance": "m_0",
        "request_ids": ["a", "b"],
        "message": 'X is "(2, 2)"\n',
    }
    assert "request_ids" not in ready


def test_the_line_of_a_failed_request_has_its_code_and_its_id_alone():
    *_, failed = lines([sent(1, "a"), sent(101, "b")])
    assert (failed["level"], failed["request_ids"], failed["code"]) == ("error", ["b"], "INTERNAL")
    assert f"error {failed['error_id']} failed 1 request(s)" in failed["message"]
    assert "Traceback" in failed["message"]


def test_a_line_has_the_trace_where_there_is_one():
    _, line, *_ = lines([sent(1, "a")], **ON)
    assert (line["trace_id"], len(line["span_id"])) == ("1" * 32, 16)


def test_the_server_side_reads_lines_of_json_like_entries_of_tritons_log():
    ready, line, *_ = lines([sent(1, "a")])
    text = "".join(json.dumps(one) + "\n" for one in (ready, line))
    first, second, _ = read_records(text)
    assert (first.level, second.level, second.source, second.text) == ("I", "I", "m_0", line["message"])
    (report,) = read_instances(text)
    assert (report.name, report.device) == ("m_0", "cpu")


def test_a_format_that_there_is_not_is_refused(monkeypatch):
    monkeypatch.setenv(LOG_FORMAT, "yaml")
    with pytest.raises(ConfigError, match=r"KINDAWARE_LOG_FORMAT: expected text or json, got 'yaml'"):
        Doubler().initialize(make_args())
