"""The same models and requests, in the harness and on a real server: same answers, codes and texts."""

from dataclasses import replace

import pytest
from harness_cases import merged
from harness_kit import DECOUPLED, PLAIN, ServerClient, infer_in_harness, stream_in_harness, write_model
from input_cases import INPUTS
from load_cases import LOADS
from outcome_cases import OUTCOMES
from stream_cases import STREAMS

from kindaware.testing import ModelHarness, ModelLoadError, ServerError, TritonServer

pytestmark = pytest.mark.server

SINGLE = {
    **INPUTS,
    **{name: case for name, case in OUTCOMES.items() if case.config != PLAIN},
    **{f"stream_{name}": case for name, case in STREAMS.items() if case.config != DECOUPLED},
}
MERGED = {"outcomes": (OUTCOMES, PLAIN), "streams": (STREAMS, DECOUPLED)}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("harness")
    for name, case in SINGLE.items():
        write_model(folder, name, case.source, case.config)
    for name, (cases, config) in MERGED.items():
        write_model(folder, name, merged(cases, config), config)
    for name, source in LOADS.items():
        write_model(folder, name, source, PLAIN)
    return folder


@pytest.fixture(scope="module")
def server(repository):
    # A response without its FINAL, as some cases have it, makes the server wait at its end.
    with TritonServer(repository, models=[*SINGLE, *MERGED], args=["--exit-timeout-secs=8"]) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return ServerClient(server.grpc_url)


def requests_of(name, cases, common):
    """The model of a case, and its requests; in a common model they name their case."""
    case = cases[name]
    if case.config != MERGED[common][1]:
        return ("stream_" if cases is STREAMS else "") + name, case.requests
    return common, [{**one, "parameters": {"case": name}} for one in case.requests]


@pytest.mark.parametrize("name", list(INPUTS))
def test_infer_refuses_what_the_server_refuses(repository, client, name):
    theirs = [client.infer(name, **request) for request in INPUTS[name].requests]
    assert infer_in_harness(repository / name, INPUTS[name].requests) == theirs


@pytest.mark.parametrize("name", list(OUTCOMES))
def test_infer_gives_what_the_server_gives(repository, client, name):
    model, requests = requests_of(name, OUTCOMES, "outcomes")
    theirs = [client.infer(model, **request) for request in requests]
    assert infer_in_harness(repository / model, requests) == theirs


@pytest.mark.parametrize(
    "name", ["raises", "raises_deep", "returns_too_many", "sender_then_returned", "half_sent_then_returned"]
)
def test_errors_are_logged_as_the_server_logs_them(repository, server, client, name):
    model, requests = requests_of(name, OUTCOMES, "outcomes")
    before = len(server.log_text())
    client.infer(model, **requests[0])
    with ModelHarness(repository / model, raise_errors=False) as harness:
        harness.infer(**requests[0])
    logged = [line.text for line in harness.logs if line.level == "ERROR"]
    assert len(logged) == 1
    assert logged[0].rstrip().replace("\n", "\n    ") in server.log_text()[before:]


@pytest.mark.parametrize("name", list(STREAMS))
def test_stream_gives_what_the_server_gives(repository, client, name):
    model, requests = requests_of(name, STREAMS, "streams")
    theirs = [client.stream(model, **request) for request in requests]
    ours = stream_in_harness(repository / model, requests)
    # A stream's errors have no code.
    assert [[replace(one, code="") for one in answers] for answers in ours] == theirs


@pytest.mark.parametrize("name", list(LOADS))
def test_a_model_that_does_not_load_says_what_the_server_says(repository, server, name):
    with pytest.raises(ServerError) as theirs:
        server.load(name)
    with pytest.raises(ModelLoadError) as ours, ModelHarness(repository / name):
        pass
    for line in str(ours.value).removesuffix(";").strip().splitlines():
        assert line in str(theirs.value)
