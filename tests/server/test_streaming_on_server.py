"""Streams on the real server: over gRPC and the generate endpoint, errors, cancellation, several at once."""

import asyncio
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from complete_models import serve_complete
from streaming_client import Answer, count_to, generate, pack, run, stream, stream_with_finals

from kindaware._batch.counters import TIMED_STAGES

pytestmark = pytest.mark.server

MODELS = Path(__file__).parent / "stream_models"
RIGHT, NAME, TYPE, ROWS, REFUSES, RAISES, EXITS, AT_ONCE = range(8)


@pytest.fixture(scope="module")
def streaming_server():
    with serve_complete(MODELS) as server:
        yield server


def numbers(answer):
    return [int(item["I"].flatten()[0]) for item in answer.items]


def how(value):
    return {"HOW": np.array([[value]], np.int32)}


@pytest.mark.parametrize("model", ["counter", "plain"])
@pytest.mark.parametrize("num_items", [0, 1, 20])
def test_stream_over_grpc_gives_each_item_and_one_final(streaming_server, model, num_items):
    answer, num_finals = stream_with_finals(streaming_server, model, **count_to(num_items))
    assert numbers(answer) == list(range(num_items))
    assert (num_finals, answer.errors) == (1, [])


def test_stream_of_a_class_without_config_is_decoupled(declaring_server):
    answer = run(
        declaring_server, lambda client: stream(client, "declared_stream", N=np.array([3], np.int32))
    )
    assert numbers(answer) == [3, 3, 3]


@pytest.mark.parametrize("model", ["counter", "plain"])
def test_stream_over_the_generate_endpoint_gives_an_event_per_item(streaming_server, model):
    status, events = generate(streaming_server, model, N=3, DELAY=0.001)
    assert status == 200
    assert [event["I"] for event in events] == [0, 1, 2]


def test_generate_with_exactly_one_item_is_one_answer(streaming_server):
    assert generate(streaming_server, "plain", "generate", N=1, DELAY=0.0)[1][0]["I"] == 0
    [event] = generate(streaming_server, "plain", "generate", N=2, DELAY=0.0)[1]
    assert "exactly 1 response" in event["error"]


@pytest.mark.parametrize(("model", "most"), [("counter", 5), ("plain", 1)])
def test_streams_run_side_by_side_when_the_generator_is_asynchronous(streaming_server, model, most):
    async def five(client):
        return await asyncio.gather(*[stream(client, model, **count_to(5, 0.05)) for _ in range(5)])

    answers = run(streaming_server, five)
    assert [numbers(answer) for answer in answers] == [list(range(5))] * 5
    assert max(int(item["OPEN"].item()) for answer in answers for item in answer.items) == most


@pytest.mark.parametrize("model", ["counter", "plain"])
def test_stream_that_its_client_cancels_is_closed(streaming_server, model):
    async def cancel_then_ask(client):
        cancelled = await stream(client, model, cancel_after=3, **count_to(100_000, 0.01))
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            after = await stream(client, model, **count_to(1))
            if after.items[0]["OPEN"].item() == 1:
                break
        return cancelled, after

    cancelled, after = run(streaming_server, cancel_then_ask)
    assert cancelled.is_cancelled
    assert numbers(cancelled)[:3] == [0, 1, 2]
    assert after.items[0]["OPEN"].item() == 1


def test_stream_that_waits_for_an_hour_is_closed_when_its_client_has_gone(streaming_server):
    async def wait_then_go(client):
        waiting = asyncio.create_task(stream(client, "counter", **count_to(1, 3600.0)))
        while (await stream(client, "counter", **count_to(1))).items[0]["OPEN"].item() < 2:
            await asyncio.sleep(0.05)
        waiting.cancel()
        assert (await waiting).is_cancelled
        deadline = time.monotonic() + 30
        while (num_open := (await stream(client, "counter", **count_to(1))).items[0]["OPEN"].item()) > 1:
            assert time.monotonic() < deadline, num_open
            await asyncio.sleep(0.1)

    run(streaming_server, wait_then_go)


def test_stream_whose_client_does_not_read_takes_no_more_than_its_limit_in_the_server(streaming_server):
    def resident_mib():
        pages = Path(f"/proc/{streaming_server.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20

    async def read_late(client):
        async def requests():
            yield {
                "model_name": "chatty",
                "request_id": "r",
                "inputs": pack({"N": np.array([[100]], np.int32)}),
            }

        before = resident_mib()
        responses = client.stream_infer(requests())
        deadline = time.monotonic() + 30
        taken = [resident_mib() - before]
        while len(set(taken[-20:])) > 1 or len(taken) < 20 or taken[-1] < 40:
            assert time.monotonic() < deadline, taken[-20:]
            await asyncio.sleep(0.05)
            taken.append(resident_mib() - before)
        answer = Answer()
        async for result, error in responses:
            answer.take(result, error)
        return max(taken), answer

    taken, answer = run(streaming_server, read_late)
    assert 40 < taken < 150  # 400 without the limit
    assert [item["I"][0, 0] for item in answer.items] == list(range(15))
    [text] = answer.errors
    assert text.startswith("model 'chatty' request 'r': expected a stream of at most 67108864 bytes")


@pytest.mark.parametrize("model", ["counter", "plain"])
def test_stream_that_ends_counts_in_the_metrics_as_a_batch_with_its_stages(streaming_server, model):
    def count(name, label=""):
        with urllib.request.urlopen(f"http://{streaming_server.metrics_url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        wanted = [line for line in lines if line.startswith(f"kindaware_{name}{{") and label in line]
        return sum(float(line.split()[-1]) for line in wanted if f'model="{model}"' in line)

    def counts():
        return [
            count("rows_total"),
            *(count("stage_seconds_total", f'stage="{one}"') for one in TIMED_STAGES),
        ]

    before = counts()
    deadline = time.monotonic() + 30
    while 0 in (added := [new - old for new, old in zip(counts(), before, strict=True)]):
        assert time.monotonic() < deadline, added
        run(streaming_server, lambda client: stream(client, model, **count_to(2)))
        time.sleep(0.3)  # counts are handed over once a second, after a call


TEXTS = {
    NAME: "model 'misbehaved' stream: expected outputs ['I'], got outputs ['J']; correct stream",
    TYPE: "model 'misbehaved' output 'I': expected data type INT32, got INT64; convert it in stream",
    ROWS: "model 'misbehaved' output 'I': expected 1 rows, as many as the batch has, got shape [2, 1]",
    REFUSES: "no more of that",
    RAISES: "model 'misbehaved' request 'r': expected stream to return, got ValueError: it broke",
    EXITS: "expected stream to return, got ProcessExitError: SystemExit: 3, which would end the process",
}


@pytest.mark.parametrize("what", TEXTS)
def test_stream_that_fails_after_an_item_ends_with_that_error(streaming_server, what):
    answer, num_finals = stream_with_finals(streaming_server, "misbehaved", request_id="r", **how(what))
    assert numbers(answer) == [what]
    assert len(answer.errors) == 1
    assert answer.errors[0].startswith(TEXTS[what]) or TEXTS[what] in answer.errors[0]
    assert num_finals == 1
    again = run(streaming_server, lambda client: stream(client, "misbehaved", **how(RIGHT)))
    assert numbers(again) == [RIGHT, RIGHT]


@pytest.mark.parametrize("model", ["misbehaved", "misbehaved_plain"])
def test_stream_that_yields_a_wrong_name_ends_alone(streaming_server, model):
    async def several(client):
        return await asyncio.gather(
            *[stream(client, model, **how(what)) for what in (RIGHT, NAME, RIGHT, NAME, RIGHT)]
        )

    answers = run(streaming_server, several)
    assert [numbers(one) for one in answers] == [[RIGHT] * 2, [NAME], [RIGHT] * 2, [NAME], [RIGHT] * 2]
    assert [len(one.errors) for one in answers] == [0, 1, 0, 1, 0]
    text = TEXTS[NAME].replace("'misbehaved'", repr(model))
    assert all(one.errors[0].startswith(text) for one in answers if one.errors)


@pytest.mark.parametrize(("what", "text"), [(AT_ONCE, "nothing of that"), (-1, "HOW is negative")])
def test_stream_that_fails_before_any_item_is_an_error_alone(streaming_server, what, text):
    answer = run(streaming_server, lambda client: stream(client, "misbehaved", **how(what)))
    assert (answer.items, answer.errors) == ([], [text])
    status, events = generate(streaming_server, "misbehaved", HOW=what)
    assert (status, events) == (400, [{"error": text}])


@pytest.mark.parametrize("model", ["counter", "plain"])
def test_stream_of_a_request_whose_id_is_not_utf8_is_refused(streaming_server, model):
    """Over HTTP the server takes any bytes for an id."""
    url = f"http://{streaming_server.http_url}/v2/models/{model}/generate_stream"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, b'{"id": "odd \xff", "N": 2, "DELAY": 0.0}', timeout=30)
    with caught.value as refused:
        text = refused.read().decode()
    assert refused.code == 400
    assert "odd" in text
    assert "xff': expected an id in UTF-8, got UnicodeDecodeError" in text


def test_stream_that_fails_over_the_generate_endpoint_ends_with_an_error_event(streaming_server):
    status, events = generate(streaming_server, "misbehaved", HOW=REFUSES)
    assert status == 200
    assert [event.get("I", event.get("error")) for event in events] == [REFUSES, "no more of that"]


def test_stream_that_raises_logs_its_traceback_once(streaming_server):
    marker = "\n    ValueError: it broke\n"  # the last line of a traceback
    before = streaming_server.log_text().count(marker)
    run(streaming_server, lambda client: stream(client, "misbehaved", **how(RAISES)))
    assert streaming_server.log_text().count(marker) == before + 1
