"""`kindaware serve --log-format json`: each entry of the log as a line of JSON."""

import json
import re
import signal
import urllib.error
import urllib.request

import pytest

from kindaware.cli.serve._json_log import JsonLog

ISO = '2024-11-22T15:53:39Z I 3766 model_lifecycle.cc:472] "{}"\n'
OWN = '{"time": "2024-11-22T15:53:39.500+00:00", "level": "warning", "instance": "m_0", "message": "slow"}\n'
FREE_PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
FAILS = """
import kindaware


class TritonPythonModel(kindaware.KindAwareModel):
    def load(self):
        print("loading weights", flush=True)

    def forward(self, X):
        raise ValueError("too much")
"""


def lines_of(text):
    log = JsonLog()
    return [json.loads(line) for line in (log.feed(text) + log.feed("") + log.close()).splitlines()]


def test_an_entry_of_the_server_has_time_level_source_and_text():
    assert lines_of(ISO.format('loading: \\"a\\"')) == [
        {
            "time": "2024-11-22T15:53:39.000+00:00",
            "level": "info",
            "source": "model_lifecycle.cc:472",
            "message": 'loading: "a"',
        }
    ]


def test_an_entry_on_several_lines_is_one_line():
    entry = "2024-11-22T15:53:39.25Z E 3766 model.py:4] first\n    second\n"
    (line,) = lines_of(entry + "\n")
    assert (line["time"], line["level"]) == ("2024-11-22T15:53:39.250+00:00", "error")
    assert line["message"] == "first\nsecond"


def test_a_line_of_an_instance_stays_as_it_is():
    assert JsonLog().feed(OWN + ISO) == OWN


def test_what_a_model_prints_and_the_servers_other_format_have_the_present_time():
    printed, entry = lines_of('{"time": "not a log line"}\nW1122 15:53:39.893168 3766 a.cc:1] "b"\n')
    assert (printed["level"], printed["message"]) == ("info", '{"time": "not a log line"}')
    assert (entry["level"], entry["source"], entry["message"]) == ("warning", "a.cc:1", "b")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", entry["time"])


@pytest.mark.server
def test_serve_prints_nothing_but_json_on_standard_error(tmp_path, write_model, start):
    config = """
        backend: "python"
        max_batch_size: 0
        input [ { name: "X", data_type: TYPE_FP32, dims: [ 1 ] } ]
        output [ { name: "Y", data_type: TYPE_FP32, dims: [ 1 ] } ]
        instance_group [ { kind: KIND_CPU } ]
        parameters { key: "kindaware.warmup" value { string_value: "off" } }
    """
    write_model(tmp_path / "models", "fails", FAILS, config=config)
    options = ["--log-format", "json", "--", "--disable-auto-complete-config"]
    process = start(tmp_path / "models", *FREE_PORTS, *options)
    while not (found := re.search(r"^ *http +(\S+)", process.stdout.readline())):
        assert process.poll() is None
    body = {"id": "r1", "inputs": [{"name": "X", "datatype": "FP32", "shape": [1], "data": [1]}]}
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(
            f"http://{found[1]}/v2/models/fails/infer", json.dumps(body).encode(), timeout=30
        )
    caught.value.close()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    lines = [json.loads(line) for line in errors.splitlines()]
    assert all(one["time"].endswith("+00:00") for one in lines)
    by_text = {one["message"].partition("\n")[0]: one for one in lines}
    assert by_text["loading: fails:1"]["source"].startswith("model_lifecycle.cc:")
    assert by_text["loading weights"]["level"] == "info"
    assert by_text["stopping the server ..."]["source"] == "kindaware serve"
    (failed,) = [one for one in lines if one.get("code")]
    about = ("level", "model", "version", "instance", "request_ids", "code")
    assert [failed[name] for name in about] == ["error", "fails", "1", "fails_0_0", ["r1"], "INTERNAL"]
