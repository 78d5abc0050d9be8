"""Named behaviours: the same requests to the same models, on a real server and in a harness."""

import time
import urllib.request

import pytest
from differential_kit import assert_same, clean, x
from table import BEHAVIOURS, FAILURES

from kindaware._server.log import read_records
from kindaware.testing import ModelHarness, ModelLoadError, ServerError, TritonContractError

pytestmark = pytest.mark.server

COMPARED_FILES = ("model.py", "pb_stub.cc")


def requests_of(name):
    """A behaviour's requests; those to a model with many cases name theirs."""
    behaviour = BEHAVIOURS[name]
    return [one.naming(name) if behaviour.body else one for one in behaviour.asks]


@pytest.mark.parametrize(
    "name",
    [name for name, one in BEHAVIOURS.items() if one.model not in ("batches", "streams") or not one.body],
)
def test_answers_are_the_same(real, ours, server, harness, name):
    asked = requests_of(name)
    start, first = len(server.log_text()), len(harness.logs)
    theirs = []
    for one in asked:
        if one.model == "iterative":  # the server ends such a sequence a moment after its answer
            time.sleep(0.2)
        theirs.append(real.infer(one))
    own = [ours.infer(one) for one in asked]
    assert_same(own, theirs)
    if BEHAVIOURS[name].logs:
        logged = lines_of(harness, first)
        assert logged
        assert logged == lines_of_server(server, start, len(logged))


@pytest.mark.parametrize("name", [name for name, one in BEHAVIOURS.items() if one.model == "batches"])
def test_answers_of_one_batch_are_the_same(real, ours, name):
    asked = requests_of(name)
    assert_same(ours.batch(asked), real.burst(asked))


@pytest.mark.parametrize("name", [name for name, one in BEHAVIOURS.items() if one.model == "streams"])
def test_streams_are_the_same(real, ours, name):
    for one in requests_of(name):
        assert_same(ours.stream(one), real.stream(one))


@pytest.mark.parametrize("name", list(FAILURES))
def test_failures_to_load_are_the_same(server, repository, name):
    with pytest.raises(ServerError) as theirs:
        server.load(name)
    with pytest.raises(ModelLoadError) as own, ModelHarness(repository / name):
        pass
    text = clean(str(own.value)).rstrip(";").strip()
    assert text in clean(str(theirs.value))
    assert len(text) > 40


def test_metrics_are_the_same(real, ours, server, harness):
    one = requests_of("metric_values")[0]
    assert_same([ours.infer(one)], [real.infer(one)])
    deadline = time.monotonic() + 10
    while (theirs := metrics_of_server(server)) != metrics_of(harness) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert metrics_of(harness) == theirs
    assert len([line for line in theirs if line[0] != "#"]) > 5


def test_a_rescheduled_request_with_the_flag_end_never_comes_back(ours):
    asked = x(model="iterative", correlation_id=11, flags=3).naming("rescheduled_twice")
    with pytest.raises(TritonContractError, match="with the flag END was rescheduled"):
        ours.infer(asked)


def metrics_of(harness):
    return sorted(line for line in harness.metrics_text().splitlines() if "diff_" in line)


def metrics_of_server(server):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{server.metrics_url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return sorted(line for line in lines if "diff_" in line)


def lines_of(harness, first):
    return [
        (line.level[0], line.filename, line.line, clean(line.text.rstrip("\n")))
        for line in harness.logs[first:]
        if line.filename in COMPARED_FILES and line.level != "VERBOSE"
    ]


def lines_of_server(server, start, count):
    """The lines in the server's log, which may come a little later; of C++ without line numbers."""
    deadline = time.monotonic() + 5
    while True:
        found = [
            (one.level, file, int(line) if file == "model.py" else 0, clean(one.text))
            for one in read_records(server.log_text()[start:])
            for file, _, line in [one.source.rpartition(":")]
            if file in COMPARED_FILES
        ]
        if len(found) >= count or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
