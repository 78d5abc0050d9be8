"""Servers, and answers, that a client can't use: it says so in one line on stderr, and fails."""

import json
import socket
import threading
import time

import pytest
from client_kit import assert_fails, http_server


def test_client_unreachable_server_fails(run_client, cat_file, closed_port):
    result = run_client("--image", cat_file, "--url", f"127.0.0.1:{closed_port}")
    assert_fails(result, subject=f"server at '127.0.0.1:{closed_port}'", got="Connection refused")


@pytest.mark.parametrize(
    "url", ["localhost", "https://localhost:8000", "localhost:http", "localhost:999999", "[::1", ""]
)
def test_client_url_that_is_no_address_fails(run_resnet50_client, cat_file, url):
    assert_fails(
        run_resnet50_client("--image", cat_file, "--url", url), subject="server at '", got="ValueError"
    )


def test_client_server_of_another_kind_fails(run_resnet50_client, cat_file):
    with http_server({"/": (200, b"hello")}) as address:
        result = run_resnet50_client("--image", cat_file, "--url", address)
    assert_fails(result, subject=f"server at '{address}'", got="another answer")


def test_client_server_of_another_protocol_fails(run_resnet50_client, cat_file):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet():
            connection, _ = listener.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(b"SSH-2.0-none\r\n\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        result = run_resnet50_client("--image", cat_file, "--url", f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert_fails(result, subject="server at '", got="")


def test_connect_silent_server_fails_in_time(monkeypatch):
    import imagenet_client

    monkeypatch.setattr(imagenet_client, "TIMEOUT_SECONDS", 0.5)
    start = time.monotonic()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(imagenet_client.ClientError, match=r"server at '.*got .*time"),
    ):
        imagenet_client.connect(f"127.0.0.1:{listener.getsockname()[1]}")
    assert time.monotonic() - start < 15


def scores_of(shape, *, name="OUTPUT", datatype="FP32", value=0.5):
    num_values = 1
    for side in shape:
        num_values *= side
    return {"outputs": [{"name": name, "datatype": datatype, "shape": shape, "data": [value] * num_values}]}


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (scores_of([1, 10]), r"float32 of shape \[1, 10\]"),
        (scores_of([1000]), r"float32 of shape \[1000\]"),
        (scores_of([2, 1000]), r"float32 of shape \[2, 1000\]"),
        (scores_of([1, 1000], datatype="INT64", value=1), r"int64 of shape \[1, 1000\]"),
        (scores_of([1, 1000], datatype="BYTES", value="a"), r"object of shape \[1, 1000\]"),
        (scores_of([1, 1000], name="SCORES"), "no such output"),
        (scores_of([1, 1000], value=float("nan")), "infinite or no number"),
        ({"outputs": []}, "no such output"),
        ({}, "no such output"),
        ({"outputs": [{"name": "OUTPUT"}]}, "KeyError"),
        ([], "AttributeError"),
        ("cut short", "JSONDecodeError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "answer",
)
def test_client_answer_of_another_form_fails(run_resnet50_client, cat_file, answer, got):
    body = b'{"outputs": [' if answer == "cut short" else json.dumps(answer).encode()
    answers = {
        "/v2/health/live": (200, b""),
        "/v2/models/resnet50/config": (200, b'{"name": "resnet50"}'),
        "/v2/models/resnet50/infer": (200, body),
    }
    with http_server(answers) as address:
        result = run_resnet50_client("--image", cat_file, "--url", address)
    assert_fails(result, subject="model 'resnet50'", got=got)


def test_client_refusal_of_several_lines_is_printed_in_one(run_resnet50_client, cat_file):
    answers = {
        "/v2/health/live": (200, b""),
        "/v2/models/resnet50/config": (200, b"{}"),
        "/v2/models/resnet50/infer": (500, json.dumps({"error": "boom\n\nAt:\n  model.py(7)"}).encode()),
    }
    with http_server(answers) as address:
        result = run_resnet50_client("--image", cat_file, "--url", address)
    assert_fails(result, subject="model 'resnet50'", got=r"'boom At: model.py\(7\)'")


def test_client_right_answer_of_the_same_stand_in_passes(run_resnet50_client, cat_file):
    # Shows that the failures above are due to the answers and not to the stand-in.
    answer = scores_of([1, 1000])
    answer["outputs"][0]["data"][281] = 9.0
    answers = {
        "/v2/health/live": (200, b""),
        "/v2/models/resnet50/config": (200, b'{"name": "resnet50"}'),
        "/v2/models/resnet50/infer": (200, json.dumps(answer).encode()),
    }
    with http_server(answers) as address:
        result = run_resnet50_client("--image", cat_file, "--url", f"http://{address}")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "Results is class: TABBY\nPASS: ResNet50 instance kind\n"
