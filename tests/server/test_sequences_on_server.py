"""Sequences on the real server: its strategies, what it fills batches with, and what comes again."""

import queue
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from complete_models import serve_complete
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.server

MODELS = Path(__file__).parent / "sequence_models"
CONFIG = """
backend: "python"
max_batch_size: %d
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [
  { name: "SUM" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "TOGETHER" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "KEPT" data_type: TYPE_FP32 dims: [ 1 ] }
]
instance_group [ { kind: KIND_CPU count: %d } ]
sequence_batching { %s }
"""
CONTROLS = """
control_input [
  { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] },
  { name: "END" control [ { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } ] },
  { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY bool_false_true: [ false, true ] } ] },
  { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: %s } ] }
]
"""
IDLE = "max_sequence_idle_microseconds: %d "
WARM_UP = """
model_warmup [ {
  name: "once" batch_size: 1
  inputs { key: "X" value { data_type: TYPE_FP32 dims: [ 1 ] zero_data: true } }
} ]
"""
BOUND = 'parameters { key: "kindaware.max_sequences" value { string_value: "2" } }'
ASKING = 'parameters { key: "kindaware.cancellation" value { string_value: "on" } }'
MANY = (
    IDLE % 60_000_000
    + """oldest {
  max_candidate_sequences: 8 preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 50000
}"""
)
REPOSITORY = {
    "direct": CONFIG % (4, 1, IDLE % 60_000_000 + "direct { }" + CONTROLS % "TYPE_UINT64"),
    "oldest": CONFIG % (4, 1, MANY + CONTROLS % "TYPE_UINT64"),
    "whole": CONFIG % (0, 1, IDLE % 60_000_000 + "direct { }" + CONTROLS % "TYPE_INT64"),
    "several": CONFIG % (4, 2, IDLE % 60_000_000 + "direct { }") + WARM_UP,
    "asking": CONFIG % (4, 1, MANY) + ASKING,
    "bounded": CONFIG % (4, 1, MANY) + BOUND,
    "idle": CONFIG % (4, 1, IDLE % 300_000 + "oldest { max_candidate_sequences: 8 }"),
    "countdown": CONFIG % (4, 1, "iterative_sequence: true"),
}
BOTH = pytest.mark.parametrize("model", ["direct", "oldest"])


@pytest.fixture(scope="module")
def other_server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("sequences")
    for name, config in REPOSITORY.items():
        code = MODELS / ("countdown" if name == "countdown" else "summing")
        shutil.copytree(code, repository / name, ignore=shutil.ignore_patterns("__pycache__"))
        (repository / name / "config.pbtxt").write_text(f'name: "{name}"{config}')
    # Some of these requests never end for the server, which would wait 30 s for them at its end.
    with serve_complete(repository, args=["--exit-timeout-secs=3"]) as running:
        yield running


@pytest.fixture(scope="module")
def client(other_server, connect):
    return connect(other_server)


class Sequence:
    """One client's requests to a model."""

    def __init__(self, client, model, sequence_id, rows=1):
        self.client, self.model, self.sequence_id = client, model, sequence_id
        self.rows = rows

    def send_unreadable(self, server, flag):
        """Send a request whose id is not UTF-8, which HTTP lets pass, and give the answer."""
        tensor = b'{"name": "X", "datatype": "FP32", "shape": [1, 1], "data": [1]}'
        options = b'{"sequence_id": %d, "%s": true}' % (self.sequence_id, flag)
        body = b'{"id": "odd \xff", "parameters": %s, "inputs": [%s]}' % (options, tensor)
        url = f"http://{server.http_url}/v2/models/{self.model}/infer"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url, body, timeout=60)
        return caught.value.code, caught.value.read()

    def begin(self, number, *, start=False, end=False):
        """Send a number, and give where the answer will be."""
        place = queue.Queue()
        shape = (1,) if self.model == "whole" else (self.rows, 1)
        options = {"sequence_id": self.sequence_id, "sequence_start": start, "sequence_end": end}
        self.call = self.client.grpc.async_infer(
            self.model,
            self.client.pack({"X": np.full(shape, number, np.float32)}),
            callback=lambda result, error: place.put(error or result),
            **(options if self.sequence_id is not None else {}),
        )
        return place

    def send(self, number, **flags):
        """Send a number, and give the sum."""
        return answer_of(self.begin(number, **flags))


def answer_of(place, output="SUM"):
    result = place.get(timeout=60)
    if isinstance(result, InferenceServerException):
        raise result
    return float(result.as_numpy(output).flatten()[0])


def refusal(sequence, number, **flags):
    with pytest.raises(InferenceServerException) as caught:
        sequence.send(number, **flags)
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


_numbers = iter(range(1000, 10_000))


def open_sequences(client, model, count):
    return [Sequence(client, model, next(_numbers)) for _ in range(count)]


@pytest.mark.parametrize("model", ["direct", "oldest", "whole", "several"])
def test_interleaved_sequences_keep_their_own_state(client, model):
    """Of a sequence alone, the direct strategy makes a batch with places that nobody fills."""
    first, second = open_sequences(client, model, 2)
    if model == "whole":  # has one place
        assert [first.send(1, start=True), first.send(2), first.send(3, end=True)] == [1, 3, 6]
        assert [second.send(10, start=True), second.send(20, end=True)] == [10, 30]
        return
    assert first.send(1, start=True) == 1
    assert second.send(100, start=True) == 100
    assert [second.send(n) for n in (1, 2, 3)] == [101, 103, 106]
    assert [first.send(n) for n in (10, 20)] == [11, 31]
    places = [one.begin(1) for one in (first, second)]
    assert list(map(answer_of, places)) == [32, 107]
    assert [first.send(1, end=True), second.send(1, end=True)] == [33, 108]


@BOTH
def test_requests_of_several_sequences_share_a_batch(client, model):
    sequences = open_sequences(client, model, 3)
    for one in sequences:
        one.send(1, start=True)
    slow = sequences[0].begin(5000)
    time.sleep(0.1)
    places = [one.begin(10) for one in sequences[1:]]
    assert [answer_of(slow), *(answer_of(one, "TOGETHER") for one in places)] == [5001, 2, 2]
    assert [one.send(1, end=True) for one in sequences] == [5002, 12, 12]


@pytest.mark.parametrize("name", ["mine", "é" * 20])
def test_sequences_may_have_names(client, name):
    sequence = Sequence(client, "several", name)
    assert [sequence.send(1, start=True), sequence.send(2), sequence.send(3, end=True)] == [1, 3, 6]


@BOTH
def test_server_refuses_what_is_no_sequence(client, model):
    (sequence,) = open_sequences(client, model, 1)
    assert "must specify the START flag on the first request" in refusal(sequence, 1)[1]
    sequence.rows = 2
    assert "must specify batch-size 1" in refusal(sequence, 1, start=True)[1]
    assert (
        "must specify a non-zero or non-empty correlation ID"
        in (refusal(Sequence(client, model, 0), 1, start=True)[1])
    )


@BOTH
def test_state_is_dropped_at_the_end(client, model):
    sequences = open_sequences(client, model, 2)
    assert [one.send(5, start=True) for one in sequences] == [5, 5]
    before = answer_of(sequences[0].begin(0), "KEPT")
    assert sequences[1].send(0, end=True) == 5
    assert answer_of(sequences[0].begin(0), "KEPT") == before - 1
    assert sequences[1].send(1, start=True) == 1
    for one in sequences:
        one.send(0, end=True)


@BOTH
@pytest.mark.parametrize(("bad", "status"), [(666, "INTERNAL"), (-1, "INVALID_ARGUMENT")])
def test_request_that_fails_leaves_all_sequences_as_they_were(client, model, bad, status):
    sequences = open_sequences(client, model, 3)
    assert [one.send(1, start=True) for one in sequences] == [1, 1, 1]
    slow = sequences[0].begin(3000)
    time.sleep(0.1)
    places = [sequences[1].begin(bad), sequences[2].begin(10)]
    assert answer_of(slow) == 3001
    with pytest.raises(InferenceServerException) as caught:
        answer_of(places[0])
    assert caught.value.status() == f"StatusCode.{status}"
    assert answer_of(places[1]) == 11
    assert [one.send(1, end=True) for one in sequences] == [3002, 2, 12]


def test_sequence_whose_first_request_failed_has_to_begin_again(client):
    (sequence,) = open_sequences(client, "oldest", 1)
    assert refusal(sequence, 666, start=True)[0] == "INTERNAL"
    status, text = refusal(sequence, 1)
    assert status == "INVALID_ARGUMENT"
    assert f"model 'oldest' sequence {sequence.sequence_id}: expected a sequence whose first request" in text
    assert sequence.send(2, start=True, end=True) == 2


def test_first_request_that_cannot_be_read_goes_on_with_no_state_of_an_earlier_sequence(client, other_server):
    sequence, other = open_sequences(client, "oldest", 2)
    assert [sequence.send(1, start=True), other.send(5, start=True)] == [1, 5]
    code, text = sequence.send_unreadable(other_server, b"sequence_start")
    assert (code, b"expected an id, parameters and a correlation id in UTF-8" in text) == (400, True)
    status, text = refusal(sequence, 1)
    assert (status, "expected a sequence whose first request was" in text) == ("INVALID_ARGUMENT", True)
    assert sequence.send(2, start=True, end=True) == 2
    assert other.send(1, end=True) == 6


def test_last_request_that_cannot_be_read_ends_its_sequence(client, other_server):
    sequence, other = open_sequences(client, "oldest", 2)
    assert [sequence.send(1, start=True), other.send(5, start=True)] == [1, 5]
    before = answer_of(other.begin(1), "KEPT")
    assert sequence.send_unreadable(other_server, b"sequence_end")[0] == 400
    assert answer_of(other.begin(1, end=True), "KEPT") == before - 1


def test_first_request_that_was_cancelled_goes_on_with_no_state_of_an_earlier_sequence(client):
    sequence, slow = open_sequences(client, "asking", 2)
    assert sequence.send(1, start=True) == 1
    working = slow.begin(10_000, start=True, end=True)
    time.sleep(0.2)
    sequence.begin(5, start=True)
    time.sleep(0.2)
    sequence.call.cancel()
    assert answer_of(working) == 10_000
    status, text = refusal(sequence, 1)
    assert (status, "expected a sequence whose first request was" in text) == ("INVALID_ARGUMENT", True)
    assert sequence.send(2, start=True, end=True) == 2


def test_sequence_beyond_the_bound_takes_the_place_of_the_one_that_is_longest_idle(client):
    first, second, third = open_sequences(client, "bounded", 3)
    assert [first.send(1, start=True), second.send(1, start=True), first.send(1)] == [1, 1, 2]
    assert third.send(1, start=True) == 1
    status, text = refusal(second, 1)
    assert status == "INVALID_ARGUMENT"
    assert "one that is idle, or longest idle of more than 2, is dropped" in text
    assert [first.send(1, end=True), third.send(1, end=True)] == [3, 2]


def test_state_of_an_idle_sequence_is_dropped(client):
    idle, other = open_sequences(client, "idle", 2)
    assert idle.send(1, start=True) == 1
    assert answer_of(other.begin(1, start=True, end=True), "KEPT") == 1
    time.sleep(1.0)
    assert answer_of(other.begin(1, start=True, end=True), "KEPT") == 0
    assert "must specify the START flag" in refusal(idle, 1)[1]


def test_request_that_is_rescheduled_comes_again_with_its_state(client):
    """The direct strategy fills places while some requests come again and others don't."""
    nobody = Sequence(client, "countdown", None)
    assert nobody.send(3) == 3
    places = [nobody.begin(number) for number in (5, 1, 4, 2)]
    assert list(map(answer_of, places)) == [5, 1, 4, 2]
    (known,) = open_sequences(client, "countdown", 1)
    assert [known.send(2, start=True), known.send(3, start=True)] == [2, 3]
    assert answer_of(nobody.begin(1), "KEPT") == 0


def test_request_that_is_rescheduled_and_fails_is_answered(client):
    nobody = Sequence(client, "countdown", None)
    assert "half a time" in refusal(nobody, 3.5)[1]
    (known,) = open_sequences(client, "countdown", 1)
    status, text = refusal(known, 2, start=True, end=True)
    assert status == "INVALID_ARGUMENT"
    assert "expected a request without the flag END" in text


def test_server_says_nothing_unexpected(other_server):
    """Last in this file: but for the models' errors, and the end of a sequence that has one already."""
    errors = re.findall(r"(?m)^E\d{4}.*", other_server.log_text())
    expected = ("failed 1 request(s)", "CudaDriver", "sequence_utils.cc")
    assert [one for one in errors if not any(text in one for text in expected)] == []
