"""Tables, options, inputs, statistics of the server, and the picture: what needs no server."""

import importlib.util
import io
import re
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kindaware._errors import ConfigError
from kindaware._server.failure import ServerError
from kindaware.cli._app import app
from kindaware.cli.bench import _plot
from kindaware.cli.bench._candidates import find_candidates
from kindaware.cli.bench._inputs import make_inputs
from kindaware.cli.bench._level import Latencies, Level
from kindaware.cli.bench._load import Load, Tally
from kindaware.cli.bench._options import check_modes, parse_loads
from kindaware.cli.bench._plot import check_plot, plot_levels
from kindaware.cli.bench._progress import Progress
from kindaware.cli.bench._report import write_levels
from kindaware.cli.bench._server_times import ServerTimes, compare, count
from kindaware.cli.bench._session import Measurement
from kindaware.cli.bench._subject import Place, _started, find_place, open_subject
from kindaware.cli.bench._sweep import Duration
from kindaware.client._metadata import Metadata, ModelClientError

FAST = Level(Load(1), 10, 40, 20, Latencies(1, 2, 3, 4), {}, 0.1, 0, None, None, ServerTimes(0.5, 0.25, 1.5))
SLOW = replace(FAST, load=Load(2), latency_ms=None, errors={"no": 3}, client_share=0.9, server=None)


def test_table_has_a_row_for_each_load_and_notes_below():
    assert write_levels([FAST, SLOW], is_stream=False).splitlines() == [
        "  in flight  requests  requests/s  rows/s   p50   p90 "
        "  p95   p99  queue  compute  rows/batch  errors",
        "          1        20        10.0    40.0  1.00  2.00"
        "  3.00  4.00   0.50     0.25         1.5       0",
        "          2        20        10.0    40.0     -     -   "
        "  -     -      -        -           -       3",
        "  latencies in ms; queue and compute: means, by the server's own clock",
        "error, 3 times: no",
        "with 2 requests in flight this load generator took 90% of a core, and may be the limit; "
        "perf_analyzer of Triton's SDK container is faster",
    ]


def test_table_of_streams_and_rates_has_columns_of_its_own():
    stream = replace(
        FAST,
        load=Load(rate=5.5),
        rows_per_second=10,
        items_per_second=99.0,
        first_item_ms=Latencies(1, 2, 3, 4),
        is_complete=False,
    )
    assert write_levels([stream], is_stream=True).splitlines() == [
        "  rate/s  requests  requests/s  items/s  first p50"
        "  first p95  gap p50  gap p95   p50   p95   p99  errors",
        "     5.5        20        10.0     99.0       1.00     "
        "  3.00        -        -  1.00  3.00  4.00       0",
        "  latencies in ms: to the first item, between items (gap), and to the last item (p50 to p99)",
        "interrupted: the last row is of the time until then",
    ]


def test_level_of_a_tally_is_per_second_and_in_milliseconds():
    tally = Tally(latencies=[0.001, 0.003], started=10.0, ended=12.0, processor_seconds=1.0, num_items=8)
    tally.errors["no"] = 2
    level = Level.of(Load(4), tally, 3, None)
    assert (level.requests_per_second, level.rows_per_second, level.items_per_second) == (1, 3, 4)
    assert level.latency_ms.p50 == pytest.approx(2.0)
    assert (level.client_share, level.num_errors, level.num_requests) == (0.5, 2, 2)
    assert level.as_dict()["concurrency"] == 4


def test_server_times_are_means_of_what_was_counted_in_between():
    def statistics(requests, executions):
        durations = {"queue": 1, "compute_input": 1, "compute_infer": 2, "compute_output": 1}
        return {
            "inference_count": str(requests * 4),
            "execution_count": executions,
            "inference_stats": {
                name: {"count": str(requests), "ns": str(requests * factor * 10**6)}
                for name, factor in durations.items()
            },
        }

    before = count([statistics(10, 10), {}])
    after = count([statistics(30, 20), {}])
    assert compare(before, after) == ServerTimes(queue_ms=1, compute_ms=4, rows_per_batch=8)
    assert compare(after, after) is None
    assert compare(Counter(), Counter()) is None


NO_MODES = {
    "compare": "",
    "tune": False,
    "concurrency": "",
    "rate": "",
    "plot": False,
    "tune_only": {},
    "rounds": False,
}


@pytest.mark.parametrize(
    ("concurrency", "rate", "expected"),
    [("1,4", "", (Load(1), Load(4))), ("1", "2.5,10", (Load(rate=2.5), Load(rate=10)))],
)
def test_parse_loads(concurrency, rate, expected):
    assert parse_loads(concurrency, rate) == expected


@pytest.mark.parametrize(
    ("concurrency", "rate"), [("", ""), ("0", ""), ("1.5", ""), ("2000", ""), ("1", "a"), ("1", "-1")]
)
def test_parse_loads_refuses(concurrency, rate):
    with pytest.raises(ConfigError, match="write it like --"):
        parse_loads(concurrency, rate)


@pytest.mark.parametrize(
    "options",
    [
        {"compare": "a", "tune": True},
        {"rate": "1", "tune": True},
        {"plot": True, "tune": True},
        {"rate": "1", "concurrency": "2"},
    ],
)
def test_check_modes_refuses_what_does_not_go_together(options):
    with pytest.raises(ConfigError, match="expected one of them"):
        check_modes(**{**NO_MODES, **options})


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--try", "kindaware.num_threads=1"], "--try: expected --tune with it, got none; add --tune"),
        (["--yes"], "--yes: expected --tune"),
        (["--latency-ms", "5"], "--latency-ms: expected --tune"),
        (["--max-error", "0"], "--max-error: expected --tune"),
        (["--min-agreement", "0"], "--min-agreement: expected --tune"),
        (["--budget-seconds", "5"], "--budget-seconds: expected --tune"),
        (["--rounds", "5"], "--rounds: expected --compare"),
    ],
)
def test_option_without_effect_is_refused_before_a_server_starts(repository, args, text):
    done = CliRunner().invoke(app, ["bench", str(repository / "net"), *args])

    assert done.exit_code == 2
    assert done.stderr.startswith(f"kindaware bench: {text}")


def test_model_to_compare_with_that_is_not_there_is_a_failure(repository):
    done = CliRunner().invoke(app, ["bench", str(repository / "net"), "--compare", "nobody"])

    assert done.exit_code == 1
    assert "--compare nobody: expected KEY=VALUE, a MODEL_DIR, a URL, or the name" in done.stderr


@pytest.fixture
def repository(tmp_path):
    for name in ("net", "other"):
        (tmp_path / "models" / name / "1").mkdir(parents=True)
    return tmp_path / "models"


def test_find_place_tells_addresses_models_and_repositories_apart(repository):
    assert find_place("localhost:8001", "m") == Place("localhost:8001", None, "m")
    assert find_place("http://[::1]:8000", "") == Place("http://[::1]:8000", None, "")
    assert find_place(str(repository / "net"), "") == Place("", repository, "net")
    assert find_place(str(repository), "other") == Place("", repository, "other")


@pytest.mark.parametrize(
    ("text", "model", "words"),
    [
        ("nowhere", "", "no such directory, and no HOST:PORT"),
        ("localhost", "", "write it like localhost:8001"),
        ("{}/net", "other", "expected net, whose directory was given"),
        ("{}", "nett", "it has net, other"),
    ],
)
def test_find_place_refuses(repository, text, model, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        find_place(text.format(repository), model)


def make_measurement(where, **changes):
    options = {
        "model": "", "version": "", "settings": {"a": "1"}, "kind": None, "over_http": False, "inputs": (),
        "shapes": (), "rows": 1, "loads": (Load(1),), "duration": Duration(1, 1, 1), **changes,
    }  # fmt: skip
    return Measurement(where=where, **options)


def test_find_candidates_of_settings_adds_them_to_those_of_the_first(repository):
    first, second = find_candidates(
        make_measurement(str(repository / "net")), "max_batch_size=2 'parameters.c=3 4'"
    )
    assert (first.place, first.settings) == (Place("", repository, "net"), {"a": "1"})
    assert (second.place, second.settings) == (
        first.place,
        {"a": "1", "max_batch_size": "2", "parameters.c": "3 4"},
    )


def test_find_candidates_of_a_directory_a_name_and_an_address(repository):
    measurement = make_measurement(str(repository / "net"))
    assert find_candidates(measurement, str(repository / "other"))[1].place == Place("", repository, "other")
    assert find_candidates(measurement, "other")[1].place == Place("", repository, "other")
    running = make_measurement("localhost:1", model="m", settings={})
    assert find_candidates(running, "localhost:2")[1].place == Place("localhost:2", None, "m")
    assert find_candidates(running, "n")[1].place == Place("localhost:1", None, "n")


def test_settings_of_a_running_server_are_refused():
    with pytest.raises(ConfigError, match="settings need a server of their own"):
        find_candidates(make_measurement("localhost:1"), "a=b")
    with (
        pytest.raises(ConfigError, match="expected a server that this command starts"),
        open_subject(Place("localhost:1", None, ""), settings={"a": "b"}),
    ):
        pass


METADATA = Metadata.of(
    {
        "name": "m",
        "inputs": [
            {"name": "X", "datatype": "FP32", "shape": ["-1", "-1", "2"]},
            {"name": "T", "datatype": "BYTES", "shape": [-1, 1]},
        ],
    },
    {"max_batch_size": 8},
)


def test_make_inputs_are_rows_that_differ_and_repeat_with_the_seed():
    inputs = make_inputs(METADATA, {}, ["T=hello"], ["X=3x2"], 2)
    assert inputs["X"].shape == (2, 3, 2)
    assert not np.array_equal(inputs["X"][0], inputs["X"][1])
    assert inputs["T"].tolist() == [[b"hello"], [b"hello"]]
    assert np.array_equal(inputs["X"], make_inputs(METADATA, {}, ["T=hello"], ["X:3,2"], 2)["X"])
    assert not np.array_equal(inputs["X"], make_inputs(METADATA, {}, ["T=a"], ["X=3x2"], 2, seed=1)["X"])


def test_make_inputs_leaves_out_what_is_optional():
    config = {"input": [{"name": "T", "optional": True}]}
    assert set(make_inputs(METADATA, config, [], ["X=3x2"], 1)) == {"X"}


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([], "sizes of one row for dims"),
        (["X=3x3"], "sizes of one row"),
        (["Y=1"], "input 'Y'"),
        (["X"], "--shape X"),
    ],
)
def test_make_inputs_refuses_shapes_that_are_not_the_models(shapes, words):
    with pytest.raises((ConfigError, ModelClientError), match=words):
        make_inputs(METADATA, {}, ["T=a"], shapes, 1)


def test_make_inputs_of_a_model_that_does_not_batch_are_one_row():
    metadata = Metadata.of({"name": "m", "inputs": [{"name": "X", "datatype": "INT8", "shape": [2]}]}, {})
    assert make_inputs(metadata, {}, [], [], 1)["X"].shape == (2,)
    with pytest.raises(ConfigError, match="model 'm' does not batch"):
        make_inputs(metadata, {}, [], [], 2)


@pytest.mark.parametrize("load", [Load(1), Load(rate=3.0)])
def test_plot_is_a_picture(tmp_path, load):
    path = tmp_path / "plot.png"
    check_plot(path)
    plot_levels([replace(FAST, load=load), SLOW], path, title="net")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_plot_that_can_not_be_written_is_refused_before_the_measurement(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"ends in .png"):
        check_plot(Path("plot.gif"))
    with pytest.raises(ConfigError, match="a directory that exists"):
        check_plot(tmp_path / "nowhere" / "plot.png")
    monkeypatch.setattr(_plot.importlib.util, "find_spec", lambda name: None)
    assert importlib.util.find_spec("matplotlib") is None
    with pytest.raises(ConfigError, match=re.escape("pip install 'kindaware[plot]'")):
        check_plot(Path("plot.png"))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_a_bar_in_a_terminal_and_lines_elsewhere(monkeypatch, capsys):
    with Progress(1.0) as progress, progress.step("8 requests in flight", 0.5):
        progress.say("[result]")
    assert capsys.readouterr().err == "[result]\n"

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Progress(1.0) as progress:
        with progress.step("8 requests in flight", 0.5):
            time.sleep(0.5)
        progress.say("[result]")
    assert "8 requests in flight" in terminal.getvalue()
    assert "[result]\n" in terminal.getvalue()
    assert not [one for one in threading.enumerate() if one.daemon and "_move" in one.name]


def test_model_that_does_not_load_is_one_line_with_the_users_own():
    class Fails:
        def start(self):
            reason = "Internal: ValueError: no weights\n\nAt:\n  /models/net/1/model.py(4): initialize\n"
            raise ServerError("many\nlines", models={"net": reason}, log="...")

    with pytest.raises(ServerError) as caught, _started(Fails()):
        pass
    place = "/models/net/1/model.py:4, in initialize"
    assert str(caught.value) == f"model 'net' can't be loaded: ValueError: no weights ({place})"
