"""`step` on the real server: streams together over gRPC, the generate endpoint and calls, and a thousand."""

import asyncio
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest
from complete_models import serve_complete
from metrics_text import read
from streaming_client import generate, run, stream, stream_with_finals

pytestmark = pytest.mark.server

MODELS = Path(__file__).parent / "step_models"
NEVER = -1
AT_START = "CudaDriverHelper has not been initialized"  # of a server on a host without a GPU


@pytest.fixture(scope="module")
def step_server():
    with serve_complete(MODELS) as server:
        yield server


def count(key, num_items, fails_at=NEVER):
    values = {"KEY": key, "N": num_items, "HOW": fails_at}
    return {name: np.array([[value]], np.int32) for name, value in values.items()}


def numbers(answer):
    return [int(item["I"].item()) for item in answer.items]


BOTH = ["stepper", "stepper_in_place"]


@pytest.mark.parametrize("model", [*BOTH, "relay"])
@pytest.mark.parametrize("num_items", [0, 1, 20])
def test_step_over_grpc_gives_each_item_and_one_final(step_server, model, num_items):
    answer, num_finals = stream_with_finals(step_server, model, **count(7, num_items))
    assert numbers(answer) == list(range(num_items))
    assert (num_finals, answer.errors) == (1, [])


@pytest.mark.parametrize("model", BOTH)
def test_step_over_the_generate_endpoint_gives_an_event_per_item(step_server, model):
    status, events = generate(step_server, model, KEY=1, N=3, HOW=NEVER)
    assert status == 200
    assert [event["I"] for event in events] == [0, 1, 2]


@pytest.mark.parametrize("model", BOTH)
def test_step_streams_run_together_and_one_that_fails_fails_alone(step_server, model):
    async def several(client):
        streams = [stream(client, model, **count(n, 100, 50 if n == 3 else NEVER)) for n in range(6)]
        return await asyncio.gather(*streams)

    answers = run(step_server, several)
    for key, answer in enumerate(answers):
        assert {int(item["WHOSE"].item()) for item in answer.items} == {key}
        assert numbers(answer) == list(range(50 if key == 3 else 100))
        assert bool(answer.errors) == (key == 3)
    assert "a stream that fails" in answers[3].errors[0]
    assert max(int(item["OPEN"].item()) for item in answers[0].items) == 6


def plan(num_streams):
    """Items, place of the cancellation and of the error of each stream."""
    dice = random.Random(20261129)
    for key in range(num_streams):
        num_items = dice.randint(0, 200)
        if key % 3 == 0:
            num_items = dice.randint(100, 200)
            yield num_items, num_items // 4, NEVER
        elif key % 50 == 1:
            yield num_items, None, dice.randint(0, max(num_items - 1, 0))
        else:
            yield num_items, None, NEVER


@pytest.mark.parametrize(("model", "num_streams"), [("stepper", 1000), ("stepper_in_place", 200)])
def test_step_of_a_thousand_streams_loses_none_and_mixes_none_up(step_server, model, num_streams):
    async def all_streams(client):
        streams = [
            stream(client, model, cancel_after=cancel_after, **count(key, num_items, fails_at))
            for key, (num_items, cancel_after, fails_at) in enumerate(plan(num_streams))
        ]
        return await asyncio.gather(*streams)

    async def num_open(client):
        for _ in range(100):
            answer = await stream(client, model, **count(0, 1))
            if (num := int(answer.items[0]["OPEN"].item())) == 1:
                break
            await asyncio.sleep(0.1)
        return num - 1

    answers = run(step_server, all_streams)
    for key, ((num_items, cancel_after, fails_at), answer) in enumerate(
        zip(plan(num_streams), answers, strict=True)
    ):
        got = numbers(answer)
        assert got == list(range(len(got)))
        assert {int(item["WHOSE"].item()) for item in answer.items} <= {key}
        assert answer.is_cancelled == (cancel_after is not None)
        if cancel_after is not None:
            assert answer.errors == []
            assert cancel_after <= len(got)
        elif fails_at != NEVER:
            assert ["a stream that fails" in error for error in answer.errors] == [True]
            assert len(got) == fails_at
        else:
            assert (answer.errors, len(got)) == ([], num_items)
    assert sum(answer.is_cancelled for answer in answers) == (num_streams + 2) // 3
    assert run(step_server, num_open) == 0
    errors = re.findall(r"^E\d{4} .*", step_server.log_text(), re.MULTILINE)  # E, month and day
    assert [one for one in errors if AT_START not in one and "a stream that fails" not in one] == []


def test_step_requests_that_wait_begin_together_and_one_that_cannot_fails_alone(step_server):
    async def several(client):
        streams = [stream(client, "stepper", **count(n, 20, 0 if n == 5 else NEVER)) for n in range(32)]
        return await asyncio.gather(*streams)

    for key, answer in enumerate(run(step_server, several)):
        assert numbers(answer) == list(range(0 if key == 5 else 20))
        assert {int(item["WHOSE"].item()) for item in answer.items} <= {key}
        assert ["a stream that fails" in error for error in answer.errors] == [True] * (key == 5)
    # As many as max_begins_per_step allows.
    assert "4 streams have begun together" in step_server.log_text()


def test_step_items_share_responses_and_none_is_lost_or_of_another(step_server):
    num_streams, num_items = 32, 200

    async def several(client):
        inputs = [
            {name: np.array([[value]], np.int32) for name, value in (("KEY", key), ("N", num_items))}
            for key in range(num_streams)
        ]
        return await asyncio.gather(*[stream(client, "shared", **one) for one in inputs])

    before = read(step_server, "shared")
    answers = run(step_server, several)
    for key, answer in enumerate(answers):
        assert answer.errors == []
        numbers_of_key = [number for item in answer.items for number in item["I"].flatten().tolist()]
        assert numbers_of_key == list(range(1000 * key, 1000 * key + num_items))
    sizes = [len(item["I"]) for answer in answers for item in answer.items]
    assert max(sizes) <= 8
    assert len(sizes) < num_streams * num_items

    wanted = num_streams * num_items + before.get(("kindaware_items_total",), 0)
    deadline = time.monotonic() + 20
    while (after := read(step_server, "shared")).get(("kindaware_items_total",)) != wanted:
        assert time.monotonic() < deadline, after
        time.sleep(0.2)
    # One that was never anything else has not come to the server.
    assert {after.get((f"kindaware_{which}_streams",), 0) for which in ("open", "waiting")} == {0}
    assert after[("kindaware_first_items_total",)] - before.get(("kindaware_first_items_total",), 0) == 32
    # Each stream is stepped once for each item, and once to end.
    assert after[("kindaware_stepped_streams_total",)] == wanted + wanted // num_items
    assert after[("kindaware_steps_total",)] <= after[("kindaware_stepped_streams_total",)]
    seconds = [after[("kindaware_item_seconds_total", which)] for which in ("first", "next")]
    assert all(0 < one < 1000 for one in seconds)
    assert after[("kindaware_requests_total",)] - before.get(("kindaware_requests_total",), 0) == num_streams
