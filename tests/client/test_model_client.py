"""`ModelClient` on a real server: over gRPC and HTTP, its twins, streams, and what goes wrong."""

import asyncio
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from client_models import DATATYPES

from kindaware.client import ModelClient, ModelClientError

pytestmark = pytest.mark.server

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "client.md"
VALUES = {
    "BOOL": [True, False],
    "FP16": np.array([1.5, -2.0], np.float16),
    "FP32": [1, 2.5],
    "FP64": torch.tensor([1.0, 2.0]),
    "STRING": ["grün", b"\x00\xff", ""],
}


@pytest.fixture
def adds(url):
    with ModelClient(url, "adds") as client:
        yield client


@pytest.fixture
def counts(server):
    with ModelClient(server.grpc_url, "counts") as client:
        yield client


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_data_type_comes_back_as_it_was_sent(url, datatype):
    value = VALUES.get(datatype, [0, 7])
    with ModelClient(url, "echo") as client:
        found = client.infer({f"IN_{datatype}": value})
    assert list(found) == [f"OUT_{datatype}"]
    sent = [one.encode() if isinstance(one, str) else one for one in value]
    assert found[f"OUT_{datatype}"].tolist() == [float(one) if hasattr(one, "item") else one for one in sent]


def test_row_without_a_batch_dimension_is_answered_without_one(adds):
    assert adds.infer(X=[1.0, 2.0])["Y"].tolist() == [2.0, 3.0]
    assert adds.infer(X=np.ones((3, 2)))["Y"].tolist() == [[2.0, 2.0]] * 3


def test_batch_needs_its_dimension(adds):
    assert adds.infer_batch(X=[[1.0, 2.0]])["Y"].tolist() == [[2.0, 3.0]]
    assert adds.infer_batch({"X": torch.ones(2, 2)}, outputs=["Y"]).keys() == {"Y"}
    text = (
        r"infer_batch of model 'adds': expected inputs with a batch dimension, got X \[2\]; add it with array"
    )
    with pytest.raises(ModelClientError, match=text):
        adds.infer_batch(X=[1.0, 2.0])


def test_request_carries_what_was_asked_for(adds):
    found = adds.infer(X=[0.0, 0.0], request_id="r7", parameters={"a": 1, "b": "c"}, outputs=["T"])
    [told] = found["T"].tolist()
    assert list(found) == ["T"]
    assert told.startswith(b"r7 0 0 ")
    assert b'"b":"c"' in told.replace(b" ", b"")


def test_outputs_can_be_written_to(adds):
    found = adds.infer(X=[1.0, 2.0])
    found["Y"] += 1


def test_refused_request_has_the_servers_text_and_code(adds):
    with pytest.raises(ModelClientError, match=r"^negative$") as caught:
        adds.infer(X=[-1.0, 0.0])
    assert caught.value.code == "NOT_FOUND"
    with pytest.raises(ModelClientError, match=r"batch-size must be <= 4 for 'adds'") as caught:
        adds.infer(X=np.zeros((9, 2)))
    assert caught.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (
            {"x": [1.0, 2.0]},
            r"model 'adds' input 'x': expected one of the model's inputs \['X'\], got another name",
        ),
        ({"X": 5.0}, r"model 'adds' input 'X': expected shape \[rows, 2\], got \[\]; reshape it"),
        ({"X": [["a", "b"]]}, r"model 'adds' input 'X': expected data type FP32, got <U1; convert it first"),
        ({"X": np.zeros((1, 1, 2))}, r"expected shape \[rows, 2\], got \[1, 1, 2\]"),
    ],
)
def test_inputs_that_are_not_the_models_are_refused_before_they_are_sent(adds, inputs, text):
    with pytest.raises(ModelClientError, match=text) as caught:
        adds.infer(inputs)
    assert caught.value.code == "CLIENT"


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("UINT8", [300]), ("UINT8", [-1]), ("INT32", [1.5]), ("BOOL", [2]), ("STRING", [5])],
)
def test_values_that_a_data_type_has_not_are_refused(url, datatype, value):
    with (
        ModelClient(url, "echo") as client,
        pytest.raises(ModelClientError, match=rf"input 'IN_{datatype}': exp"),
    ):
        client.infer({f"IN_{datatype}": value})


def test_inputs_without_names_are_told_how_to_write_them(adds):
    with pytest.raises(ModelClientError, match=r"got list without a name; write infer\(X=\.\.\.\)"):
        adds.infer([1.0, 2.0])


def test_model_that_is_not_there_is_named(url):
    with ModelClient(url, "nobody") as client, pytest.raises(ModelClientError, match="nobody") as caught:
        client.infer(X=[1.0])
    assert caught.value.code in ("NOT_FOUND", "INVALID_ARGUMENT")


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_server_that_is_not_there_is_said_to_be_so_and_asked_again_if_wanted(scheme):
    text = rf"{scheme}://127.0.0.1:1: expected a server that answers, got .*; start it, as with kind"
    with ModelClient(f"{scheme}://127.0.0.1:1", "adds", retries=1) as client:
        started = time.monotonic()
        with pytest.raises(ModelClientError, match=text) as caught:
            client.infer(X=[1.0])
    assert (caught.value.code, caught.value.was_sent) == ("UNAVAILABLE", False)
    assert time.monotonic() - started > 0.4


def test_answer_that_takes_too_long_is_an_error_with_the_code(url):
    with (
        ModelClient(url, "waits", timeout_seconds=0.5) as client,
        pytest.raises(ModelClientError, match="model 'waits': expected an answer") as caught,
    ):
        client.infer(X=[2.0, 0.0])
    assert caught.value.code == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("url", ["ftp://a:1", "https://a:1"])
def test_url_of_another_scheme_is_refused(url):
    with pytest.raises(ModelClientError, match=r"expected grpc://HOST:PORT or http://HOST:PORT"):
        ModelClient(url, "m")


def test_futures_are_under_way_together(server):
    with ModelClient(server.grpc_url, "adds") as client:
        futures = [client.infer_future(X=[float(n), 0.0]) for n in range(20)]
        assert [one.result()["Y"][0] for one in futures] == [n + 1.0 for n in range(20)]


def test_asynchronous_requests_run_side_by_side(server):
    async def ask():
        with ModelClient(server.grpc_url, "adds") as client:
            found = await asyncio.gather(*[client.infer_async(X=[float(n), 0.0]) for n in range(10)])
            return [one["Y"][0] for one in found]

    assert asyncio.run(ask()) == [n + 1.0 for n in range(10)]


def test_stream_yields_each_answer(counts):
    assert [one["Y"].tolist() for one in counts.stream(X=[3.0, 0.0])] == [[n, n] for n in range(3)]
    assert list(counts.stream(X=[0.0, 0.0])) == []
    assert [one["Y"].shape for one in counts.stream(X=np.array([[1.0, 0.0]]))] == [(1, 2)]


def test_stream_that_fails_raises_after_the_answers_before(counts):
    answers = counts.stream(X=[9.0, 0.0])
    assert [next(answers)["Y"][0] for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ModelClientError, match="five"):
        next(answers)


def test_stream_that_is_left_early_is_cancelled(counts, server):
    for one in counts.stream(X=[5.0, 0.2]):
        assert one["Y"][0] == 0
        break
    started = time.monotonic()
    assert len(list(counts.stream(X=[1.0, 0.0]))) == 1
    assert time.monotonic() - started < 0.9  # the instance is free again


def test_stream_that_is_too_slow_is_an_error(counts):
    with pytest.raises(ModelClientError, match=r"expected an answer within 0\.3 s"):
        list(counts.stream(X=[1.0, 2.0], timeout_seconds=0.3))


def test_streams_leave_no_thread_behind_however_they_end(counts):
    list(counts.stream(X=[1.0, 0.0]))
    before = set(threading.enumerate())
    list(counts.stream(X=[3.0, 0.0]))
    next(counts.stream(X=[5.0, 0.1]))
    with pytest.raises(ModelClientError, match="within"):
        list(counts.stream(X=[1.0, 2.0], timeout_seconds=0.1))
    with pytest.raises(ModelClientError, match="five"):
        list(counts.stream(X=[9.0, 0.0]))
    latest = time.monotonic() + 20
    while set(threading.enumerate()) - before:
        assert time.monotonic() < latest, threading.enumerate()
        time.sleep(0.05)


def test_asynchronous_stream_yields_each_answer(server):
    async def ask():
        with ModelClient(server.grpc_url, "counts") as client:
            return [one["Y"][0] async for one in client.stream_async(X=[3.0, 0.0])]

    assert asyncio.run(ask()) == [0, 1, 2]


def test_stream_over_http_is_refused(server):
    with (
        ModelClient(f"http://{server.http_url}", "counts") as client,
        pytest.raises(ModelClientError, match="expected a connection over gRPC, got one over HTTP"),
    ):
        list(client.stream(X=[1.0, 0.0]))


def test_metadata_has_the_models_tensors(adds):
    assert [(one.name, one.datatype, one.dims) for one in adds.metadata.inputs] == [("X", "FP32", (2,))]
    assert adds.metadata.batches
    assert repr(adds).startswith("<ModelClient 'adds' of ")


def test_code_of_the_page_runs(url):
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    namespace = {}
    exec(code, namespace)
    picture = torch.zeros(3, 4, 4)
    picture[2] = 1.0
    assert namespace["classify"](picture, url=url) == 2
    assert namespace["classify"](picture[None], url=url).tolist() == [2]
