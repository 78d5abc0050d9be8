"""Who may use what of a server: the management APIs, the token, and the address beyond loopback."""

import http.client
import json
from pathlib import Path

import pytest

from kindaware._errors import OptionError
from kindaware._server.access import MANAGEMENT_APIS, Access, bearer_headers, is_loopback
from kindaware._server.failure import ServerOptionError
from kindaware.cli.serve._access import ServeAccess, read_access

TOKEN = "abcdefgh-_.~+/0123"
GIVEN = {
    "host": None,
    "is_public": False,
    "is_insecure": False,
    "token": None,
    "token_file": None,
    "allowed": (),
}


def read(**given):
    return read_access(**{**GIVEN, **given})


def test_read_access_by_default_is_loopback_with_the_management_apis_closed():
    assert read() == ServeAccess("127.0.0.1", MANAGEMENT_APIS, None, None)


def test_read_access_with_allow_opens_that_api_and_all_opens_all():
    assert read(allowed=["trace"]).restricted_apis == ("model-repository", "shared-memory", "logging")
    assert read(allowed=["all"]).restricted_apis == ()


@pytest.mark.parametrize(
    ("given", "host"),
    [({"is_public": True}, "0.0.0.0"), ({"host": "10.1.2.3"}, "10.1.2.3"), ({"host": "::"}, "::")],
)
def test_read_access_beyond_loopback_takes_a_token_or_insecure(given, host, tmp_path):
    with pytest.raises(OptionError, match=r"expected a token that clients must have, .* got neither; set"):
        read(**given)

    (tmp_path / "token").write_text(f"{TOKEN}\n")

    assert read(**given, is_insecure=True) == ServeAccess(host, MANAGEMENT_APIS, None, None)
    assert read(**given, token=TOKEN) == ServeAccess(host, MANAGEMENT_APIS, TOKEN, "127.0.0.1")
    assert read(**given, token_file=tmp_path / "token").token == TOKEN


def test_read_access_on_loopback_with_a_token_leaves_the_metrics_where_they_are():
    assert read(token=TOKEN) == ServeAccess("127.0.0.1", MANAGEMENT_APIS, TOKEN, None)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"token": TOKEN, "token_file": Path("x")}, "--token with --token-file: expected one of them"),
        ({"token": TOKEN, "is_insecure": True}, "--insecure with a token: expected one of them"),
        (
            {"is_public": True, "host": "127.0.0.1"},
            "--public with --host 127.0.0.1: expected an address that",
        ),
        ({"token_file": Path("/no/such")}, "--token-file /no/such: expected a file to read"),
        ({"allowed": ["traces"]}, "--allow traces: expected one of model-repository, shared-memory"),
    ],
)
def test_read_access_that_contradicts_itself_is_refused(given, text):
    with pytest.raises(OptionError) as caught:
        read(**given)

    assert text in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_is_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])
def test_is_loopback_not(host):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "token", ["", "short", "a" * 15, "with space in it all", "a:b=c,d" * 4, "x" * 20 + "\n"]
)
def test_access_token_that_a_server_would_misread_is_refused(token):
    with pytest.raises(ServerOptionError, match="expected at least 16 letters, digits and"):
        Access(token=token)


def test_access_restricted_of_another_name_is_refused():
    with pytest.raises(ServerOptionError, match="restricted_apis: expected names out of model-repository"):
        Access(("inference",))


def test_access_open_has_no_options_and_no_headers():
    assert Access().options() == []
    assert Access().headers() == {}
    Access().check_args(["--http-restricted-api=trace:a=b"])


def test_access_options_restrict_each_api_once_for_both_protocols():
    access = Access(("trace", "logging"), TOKEN)

    options = access.options()
    names = [option.partition("=")[2].partition(":")[0].split(",") for option in options[::2]]

    assert [option.partition("=")[0] for option in options] == [
        "--http-restricted-api",
        "--grpc-restricted-protocol",
    ] * 2
    assert sorted(name for group in names for name in group) == sorted(
        [*MANAGEMENT_APIS, "inference", "metadata", "model-config", "statistics"]
    )
    assert names[0] == ["trace", "logging"]
    assert TOKEN not in repr(access)


def test_access_secrets_differ():
    assert Access(("trace",)).headers() != Access(("trace",)).headers()


def test_access_beside_restrictions_of_the_callers_is_refused():
    with pytest.raises(ServerOptionError, match="--grpc-restricted-protocol: expected restrictions"):
        Access(("trace",)).check_args(["--grpc-restricted-protocol", "trace:a=b"])


def test_bearer_headers_are_named_as_each_protocol_wants():
    assert bearer_headers(None, "grpc") == {}
    assert bearer_headers(TOKEN, "http") == {"authorization": f"Bearer {TOKEN}"}
    assert bearer_headers(TOKEN, "grpc") == {"triton-grpc-protocol-authorization": f"Bearer {TOKEN}"}


def ask(url, method, path, headers=None):
    connection = http.client.HTTPConnection(url, timeout=20)
    body = None
    if method == "POST":
        tensor = {"name": "X", "datatype": "FP32", "shape": [1], "data": [1]}
        body = json.dumps({"inputs": [tensor]} if path.endswith("infer") else {})
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


MANAGEMENT = [
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/echo/load"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/cudasharedmemory/unregister"),
    ("GET", "/v2/trace/setting"),
    ("GET", "/v2/logging"),
]
SERVING = [
    ("GET", "/v2"),
    ("GET", "/v2/models/echo"),
    ("GET", "/v2/models/echo/config"),
    ("GET", "/v2/models/stats"),
    ("POST", "/v2/models/echo/infer"),
]
HEALTH = [("GET", "/v2/health/live"), ("GET", "/v2/health/ready"), ("GET", "/v2/models/echo/ready")]


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory, write_model):
    """A server with a token, whose management APIs are its owner's."""
    from kindaware.testing import TritonServer

    folder = tmp_path_factory.mktemp("guarded")
    write_model(folder, "echo")
    arguments = {"args": ["--disable-auto-complete-config"], "models": ["echo"]}
    with TritonServer(folder, token=TOKEN, restricted_apis=MANAGEMENT_APIS, **arguments) as server:
        yield server


@pytest.mark.server
def test_server_guarded_answers_strangers_about_its_health_alone(guarded_server):
    found = {path: ask(guarded_server.http_url, method, path)[0] for method, path in HEALTH}
    refused = [ask(guarded_server.http_url, *one) for one in MANAGEMENT + SERVING]

    assert set(found.values()) == {200}
    assert {status for status, _ in refused} == {403}
    assert all("expecting header" in text and TOKEN not in text for _, text in refused)


@pytest.mark.server
def test_server_guarded_serves_the_token_and_leaves_management_to_its_owner(guarded_server):
    url, headers = guarded_server.http_url, bearer_headers(TOKEN, "http")

    assert {ask(url, *one, headers)[0] for one in SERVING} == {200}
    assert {ask(url, *one, headers)[0] for one in MANAGEMENT} == {403}
    assert {ask(url, *one, {"authorization": f"Bearer {TOKEN[:-1]}"})[0] for one in SERVING} == {403}
    owned = {path: ask(url, method, path, guarded_server.headers)[0] for method, path in MANAGEMENT}
    assert 403 not in owned.values()
    assert guarded_server.model_state("echo") == "READY"


@pytest.mark.server
def test_server_guarded_is_the_same_over_grpc(guarded_server):
    import tritonclient.grpc as grpc_client
    from tritonclient.utils import InferenceServerException

    token = bearer_headers(TOKEN, "grpc")
    management = ("get_model_repository_index", "get_system_shared_memory_status", "get_trace_settings")
    management += ("get_cuda_shared_memory_status", "get_log_settings")
    with grpc_client.InferenceServerClient(guarded_server.grpc_url) as client:
        assert client.is_server_ready()
        assert client.is_model_ready("echo")
        assert client.get_server_metadata(headers=token).name
        for name in ("get_server_metadata", "get_inference_statistics"):
            with pytest.raises(InferenceServerException, match="This protocol is restricted"):
                getattr(client, name)()
        for name in management:
            with pytest.raises(InferenceServerException, match="This protocol is restricted"):
                getattr(client, name)(headers=token)


@pytest.mark.server
@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_client_with_the_token_is_answered_and_without_is_not(guarded_server, scheme):
    from kindaware.client import ModelClient, ModelClientError

    url = f"{scheme}://{guarded_server.grpc_url if scheme == 'grpc' else guarded_server.http_url}"
    with ModelClient(url, "echo", token=TOKEN) as model:
        assert model.infer(X=[1.0, 2.0])["Y"].tolist() == [1.0, 2.0]
    with ModelClient(url, "echo") as model, pytest.raises(ModelClientError, match="restricted"):
        model.infer(X=[1.0])


@pytest.mark.server
def test_client_without_the_token_reads_why_its_stream_is_refused(guarded_server):
    from kindaware.client._client import Call
    from kindaware.client._errors import ModelClientError
    from kindaware.client._transport import Transport

    call = Call({}, {}, None, "", None, 0, False, False, 20.0)
    with pytest.raises(ModelClientError, match="restricted, expecting header"):
        list(Transport(guarded_server.grpc_url, 20.0).stream("echo", "", call))


@pytest.mark.server
def test_infer_names_the_models_of_a_server_that_keeps_its_index(guarded_server, monkeypatch):
    import subprocess
    import sys

    monkeypatch.setenv("KINDAWARE_TOKEN", TOKEN)
    command = [sys.executable, "-m", "kindaware.cli", "infer"]

    done, wrong = (
        subprocess.run(
            [*command, model, "--url", guarded_server.grpc_url, "-i", "X=[3]"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        for model in ("echo", "ecco")
    )

    assert (done.returncode, "3" in done.stdout) == (0, True), done.stderr
    assert "expected a model that is ready, got none of that name; it has echo" in wrong.stderr


FREE_PORTS = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]

TELLS = """
import os
import numpy
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        told = numpy.array(["KINDAWARE_TOKEN" in os.environ], "float32")
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", told)]) for _ in requests]
"""


@pytest.mark.server
def test_serve_public_lets_in_who_has_the_token_and_keeps_it_from_models(
    tmp_path, write_model, start, monkeypatch
):
    monkeypatch.setenv("KINDAWARE_TOKEN", TOKEN)
    write_model(tmp_path, "tells", TELLS)
    process = start(tmp_path, *FREE_PORTS, "--public", "--json", "--", "--disable-auto-complete-config")
    ready = next(event for event in map(json.loads, process.stdout) if event["event"] == "ready")
    headers = bearer_headers(TOKEN, "http")

    status, answer = ask(ready["http"], "POST", "/v2/models/tells/infer", headers)
    refused = ask(ready["http"], "POST", "/v2/models/tells/infer")[0]
    log = Path(ready["log"]).read_text()
    process.terminate()
    out, errors = process.communicate(timeout=40)

    assert (status, refused) == (200, 403)
    assert json.loads(answer)["outputs"][0]["data"] == [0.0]
    assert "HTTPService at 0.0.0.0:" in log
    assert "Metrics Service at 127.0.0.1:" in log
    assert ready["notes"][0] == "It listens on 0.0.0.0, and serves everybody who has the token"
    assert TOKEN not in json.dumps(ready) + out + errors


@pytest.mark.server
@pytest.mark.wheel_server("only its server has this age")
def test_serve_says_that_the_wheels_server_is_old(shared_server):
    from kindaware.cli.serve._block import list_notes, write_block

    (note,) = list_notes(shared_server)

    assert note.startswith("The wheel's server is of October 2024 and lacks later security fixes")
    assert write_block(shared_server).splitlines()[-2] == note


def test_serve_public_without_a_token_is_a_wrong_command_line(tmp_path, write_model, monkeypatch):
    import subprocess
    import sys

    monkeypatch.delenv("KINDAWARE_TOKEN", raising=False)
    write_model(tmp_path, "echo")
    command = [sys.executable, "-m", "kindaware.cli", "serve", str(tmp_path), "--public"]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert done.stderr.startswith("kindaware serve: --public: expected a token that clients must have")
