"""What requests may carry and ask for, on the real server: text, scalars, absent inputs, different lengths,
what they say about themselves, cancellation and deadlines."""

import json
import queue
import struct
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from complete_models import serve_complete
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.server

MODELS = Path(__file__).parent / "request_models"


@pytest.fixture(scope="module")
def other_server():
    with serve_complete(MODELS) as running:
        yield running


@pytest.fixture(scope="module")
def client(other_server, connect):
    return connect(other_server)


class Answers:
    """Requests sent without waiting, so that they meet in one call or in the queue."""

    def __init__(self, client, model):
        self.client, self.model = client, model
        self.places = []

    def send(self, options=None, **inputs):
        place = queue.Queue()
        self.places.append(place)
        return self.client.grpc.async_infer(
            self.model,
            self.client.pack(inputs),
            callback=lambda result, error: place.put(error or result),
            **(options or {}),
        )

    def wait(self):
        """One per request: its outputs, or its error."""
        found = [place.get(timeout=60) for place in self.places]
        return [one if isinstance(one, InferenceServerException) else unpacked(one) for one in found]


def unpacked(result):
    return {one.name: result.as_numpy(one.name) for one in result.get_response().outputs}


def text(*rows):
    array = np.empty((len(rows), len(rows[0])), dtype=object)
    for place, row in enumerate(rows):
        array[place, :] = row
    return array


def test_text_of_any_bytes_keeps_them_and_its_rows(client):
    answers = Answers(client, "text")
    sent = [
        text([b"a\0", b""], [b"\xff\xfe", b"abc"]),
        text(["é".encode(), b"x" * 100_000]),
        text([b"\0", b"\0\0"]),
    ]
    for array in sent:
        answers.send(TEXT=array)
    found = answers.wait()
    for array, answer in zip(sent, found, strict=True):
        assert answer["LOUD"].tolist() == [[one.upper() for one in row] for row in array]
        assert answer["LENGTHS"].tolist() == [[len(one) for one in row] for row in array]
        numbers = [sum(map(len, row)) for row in array]
        assert answer["NAMES"].tolist() == [[f"né {number}".encode()] for number in numbers]


def test_text_without_elements_is_answered(client):
    found = client.infer("text", TEXT=np.empty((2, 0), dtype=object))
    assert (found["LOUD"].shape, found["LENGTHS"].shape) == ((2, 0), (2, 0))
    assert found["NAMES"].tolist() == [["né 0".encode()]] * 2


def test_requests_with_and_without_an_optional_input_have_batches_of_their_own(client):
    client.infer("text", TEXT=text([b"warm"]))
    answers = Answers(client, "text")
    for number in range(6):
        scale = {"SCALE": np.full((1, 1), 10.0, np.float32)} if number >= 3 else {}
        answers.send(TEXT=text([b"x" * number]), **scale)
    found = answers.wait()
    assert [float(one["LENGTHS"][0, 0]) for one in found] == [0, 1, 2, 30, 40, 50]
    assert max(int(one["ROWS"][0, 0]) for one in found) in (2, 3)


def scalar(name, datatype, content, shape):
    tensor = grpcclient.InferInput(name, shape, datatype)
    tensor._raw_content = content
    return tensor


@pytest.mark.parametrize(("model", "shape"), [("scalar", [1]), ("scalar_rows", [1, 1])])
def test_scalars_keep_every_bit_and_bf16_stays_bf16(client, model, shape):
    inputs = [
        scalar("BF16", "BF16", b"\x81\x3f", shape),  # 1.0078125
        scalar("INT64", "INT64", struct.pack("<q", 2**62), shape),
        scalar("TEXT", "BYTES", struct.pack("<I", 2) + b"a\0", shape),
    ]
    result = client.grpc.infer(model, inputs, client_timeout=60)
    response = result.get_response()
    assert {tuple(one.shape) for one in response.outputs} == {tuple(shape)}
    raw = {one.name: response.raw_output_contents[n] for n, one in enumerate(response.outputs)}
    # 3.0234375 lies between two values of BF16, 3.015625 and 3.03125, and rounds to the even one.
    assert raw["TRIPLE"] == b"\x42\x40"
    assert raw["NEXT"] == struct.pack("<q", 2**62 + 1)
    assert raw["SAME"] == struct.pack("<I", 2) + b"a\0"


def test_requests_of_different_length_share_a_padded_batch(client):
    client.infer("ragged", IDS=np.ones((1, 1), np.int64))
    answers = Answers(client, "ragged")
    lengths = [3, 1, 5, 0, 2]
    for length in lengths:
        answers.send(IDS=np.arange(length, dtype=np.int64)[None].repeat(2, 0))
    found = answers.wait()
    for length, answer in zip(lengths, found, strict=True):
        assert answer["TIMES_TEN"].tolist() == [list(range(0, 10 * length, 10))] * 2
        assert answer["BATCH"][:, 2].tolist() == [length] * 2
    assert max(int(one["BATCH"][0, 0]) for one in found) > 2  # rows of the batch: more than one request's


def test_requests_of_different_length_are_divided_where_padding_would_exceed_its_share(client):
    client.infer("ragged_divided", IDS=np.ones((1, 1), np.int64))
    lengths = [4, 50, 3, 45, 4]
    for _ in range(5):  # until all have come in one call
        before = client.statistics("ragged_divided").execution_count
        answers = Answers(client, "ragged_divided")
        for length in lengths:
            answers.send(IDS=np.arange(length, dtype=np.int64)[None])
        found = answers.wait()
        if client.statistics("ragged_divided").execution_count == before + 1:
            break
    for length, answer in zip(lengths, found, strict=True):
        assert answer["TIMES_TEN"].tolist() == [list(range(0, 10 * length, 10))]
    short, long = [3, 4], [2, 50]
    assert [one["BATCH"][0, :2].tolist() for one in found] == [short, long, short, long, short]


def test_request_of_1000_rows_is_answered_in_forwards_of_64(client):
    rows = np.arange(3000, dtype=np.float32).reshape(1000, 3)
    sent = {"X": rows, "TEXT": text(*([b"%d" % n] for n in range(1000)))}
    found = client.infer("many_rows", **sent)
    np.testing.assert_array_equal(found["DOUBLED"], 2 * rows)
    assert found["SAME"].tolist() == sent["TEXT"].tolist()
    assert found["ROWS"][:, 0].tolist() == [64] * 960 + [40] * 40


def test_requests_of_one_call_share_forwards_of_64_and_each_gets_its_own_rows(client):
    answers = Answers(client, "many_rows")
    counts = [1, 150, 60, 3, 64, 7]
    for place, count in enumerate(counts):
        rows = np.full((count, 3), place, np.float32)
        answers.send(X=rows, TEXT=text(*([b"%d" % place] for _ in range(count))))
    for place, (count, answer) in enumerate(zip(counts, answers.wait(), strict=True)):
        assert answer["DOUBLED"].tolist() == [[2.0 * place] * 3] * count
        assert answer["SAME"].tolist() == [[b"%d" % place]] * count
        assert answer["ROWS"].max() <= 64


def test_text_that_preprocess_tokenises_shares_a_padded_batch(client):
    client.infer("tokens", TEXT=text([b"a"]))
    answers = Answers(client, "tokens")
    sent = [text([b"abc"], [b"x"]), text([b""]), text([b"a" * 50]), text([b"\xff\0"], [b"yz"])]
    for one in sent:
        answers.send(TEXT=one)
    found = answers.wait()
    for one, answer in zip(sent, found, strict=True):
        assert answer["SUM"][:, 0].tolist() == [sum(row) for row in one[:, 0]]
        assert answer["BATCH"][:, 2].tolist() == [len(row) for row in one[:, 0]]
    assert max(int(one["BATCH"][0, 0]) for one in found) > 2  # rows of the batch: more than one request's


def test_outputs_of_different_size_come_from_one_forward(client):
    client.infer("positives", X=np.ones((1, 4), np.float32))
    answers = Answers(client, "positives")
    counts = [3, 1, 4, 0, 2, 4, 1, 3]
    for place, count in enumerate(counts):
        row = np.where(np.arange(4) < count, 10 + place, -1).astype(np.float32)
        answers.send(X=row[None].repeat(2, 0))
    found = answers.wait()
    for place, (count, answer) in enumerate(zip(counts, found, strict=True)):
        assert answer["KEPT"].tolist() == [[10 + place] * count] * 2
        assert answer["WORDS"].tolist() == [[str(10 + place).encode()] * count] * 2
    assert max(int(one["BATCH"][0, 0]) for one in found) > 2  # rows of the batch: more than one request's


@pytest.mark.parametrize(
    ("model", "batches"),
    [
        ("ragged_apart", {0: [3, 3], 1: [1, 1], 2: [3, 3], 3: [1, 5], 4: [3, 3]}),
        ("ragged_collate", {n: [5, 5] for n in range(5)}),
    ],
)
def test_requests_of_different_length_are_apart_or_joined_by_collate(client, model, batches):
    lengths = [3, 1, 3, 5, 3]
    for _ in range(5):  # until all have come in one call
        before = client.statistics(model).execution_count
        answers = Answers(client, model)
        for place, length in enumerate(lengths):
            answers.send(X=np.full((1, length), place, np.float32))
        found = answers.wait()
        if client.statistics(model).execution_count == before + 1:
            break
    assert {place: one["BATCH"][0].tolist() for place, one in enumerate(found)} == batches
    for place, (length, answer) in enumerate(zip(lengths, found, strict=True)):
        in_front = int(answer["BATCH"][0, 1]) - length
        assert answer["SUM"].tolist() == [[place * length + in_front]]


def test_hooks_get_what_requests_say_about_themselves(client):
    options = {
        "request_id": "seven",
        "timeout": 3_000_000,
        "parameters": {"scale": 2.5, "name": "é", "n": 3, "on": True},
        "outputs": [grpcclient.InferRequestedOutput("SAID"), grpcclient.InferRequestedOutput("OTHER")],
    }
    result = client.grpc.infer("asking", client.pack({"X": np.ones((2, 1), np.float32)}), **options)
    said = [json.loads(one) for one in result.as_numpy("SAID")[:, 0]]
    parameters = options["parameters"]
    assert said == [["seven", parameters, 3_000_000, 0, False, False, 2, ["OTHER", "SAID"]]] * 2
    assert result.as_numpy("OTHER").tolist() == [[2.5], [2.5]]


@pytest.mark.parametrize(
    "said",
    [
        b'"id": "odd \xff"',
        b'"parameters": {"name": "odd \xff"}',
        b'"parameters": {"sequence_id": "odd \xff"}',
    ],
    ids=["id", "parameter", "sequence"],
)
def test_request_that_says_what_is_not_utf8_is_refused_alone(other_server, said):
    """Over HTTP the server takes any bytes."""

    def send(said, number):
        tensor = b'{"name": "X", "datatype": "FP32", "shape": [1, 1], "data": [%d]}' % number
        url = f"http://{other_server.http_url}/v2/models/saying/infer"
        try:
            with urllib.request.urlopen(url, b'{%s, "inputs": [%s]}' % (said, tensor), timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    with ThreadPoolExecutor(3) as pool:
        first, odd, last = pool.map(send, [b'"id": "a"', said, b'"id": "b"'], [1, 2, 3])
    assert [first[0], odd[0], last[0]] == [200, 400, 200]
    assert b"and a correlation id in UTF-8, got UnicodeDecodeError" in odd[1]
    assert b'"data":["a"]' in first[1]
    assert b'"data":["b"]' in last[1]


@pytest.mark.parametrize("when", ["tell", "tell early"])
def test_response_parameters_are_sent_or_refused_for_that_request_alone(client, when):
    """ResponseSender have parameters from release 25.02 on, which is server 2.55."""
    inputs = client.pack({"X": np.ones((1, 1), np.float32)})
    version = client.grpc.get_server_metadata().version
    if tuple(map(int, version.split(".")[:2])) >= (2, 55):
        response = client.grpc.infer("asking", inputs, parameters={when: 7}).get_response()
        assert response.parameters["told"].int64_param == 7
    else:
        with pytest.raises(InferenceServerException, match=r"got one before release 25\.02") as caught:
            client.grpc.infer("asking", inputs, parameters={when: 7})
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
    assert client.infer("asking", X=np.ones((1, 1), np.float32))["OTHER"].tolist() == [[1.0]]


@pytest.mark.parametrize(("model", "num_forwards"), [("slow", 3), ("slow_asked", 3), ("slow_unasked", 4)])
def test_request_cancelled_before_its_batch_costs_no_forward_where_asked_for(client, model, num_forwards):
    """The first forward tells that the model is slow; without asking, the cancelled request has a forward."""
    client.infer(model, SECONDS=np.full((1, 1), 0.2, np.float32))
    answers = Answers(client, model)
    answers.send(SECONDS=np.full((1, 1), 1.5, np.float32))
    time.sleep(0.3)
    gone = answers.send(SECONDS=np.full((1, 1), 0.01, np.float32))
    time.sleep(0.3)
    gone.cancel()
    answers.send(SECONDS=np.full((1, 1), 0.01, np.float32))
    _, cancelled, last = answers.wait()
    assert "ancel" in str(cancelled)
    assert last["COUNT"].tolist() == [[num_forwards]]


def test_request_that_waits_longer_than_the_queue_policy_allows_is_refused(client):
    answers = Answers(client, "queued")
    for seconds in (3.5, 0.01, 0.01):
        answers.send(SECONDS=np.full((1, 1), seconds, np.float32))
        time.sleep(0.1)
    found = answers.wait()
    assert not isinstance(found[0], InferenceServerException)
    assert found[-1].status() == "StatusCode.UNAVAILABLE"
    assert "timeout expired" in found[-1].message()


def test_request_with_a_timeout_of_its_own_waits_no_longer(client):
    answers = Answers(client, "queued")
    for options in ({}, {}, {"timeout": 100_000}):
        answers.send(options, SECONDS=np.full((1, 1), 0.5, np.float32))
        time.sleep(0.02)
    found = answers.wait()
    assert [isinstance(one, InferenceServerException) for one in found] == [False, False, True]
    assert found[2].status() == "StatusCode.UNAVAILABLE"


def test_request_that_finds_the_queue_full_is_refused(client):
    answers = Answers(client, "queued")
    for _ in range(10):
        answers.send({"timeout": 20_000_000}, SECONDS=np.full((1, 1), 0.2, np.float32))
    found = answers.wait()
    refused = [one for one in found if isinstance(one, InferenceServerException)]
    assert refused
    assert {one.status() for one in refused} == {"StatusCode.UNAVAILABLE"}
    assert any("maximum queue size" in one.message() for one in refused)
