"""A thousand streams on the real server, a third of them cancelled: all end, and the log stays clean."""

import asyncio
import random
import re
import shutil
import time
from pathlib import Path

import pytest
from complete_models import serve_complete
from streaming_client import count_to, run, stream

pytestmark = pytest.mark.server

MODELS = Path(__file__).parent / "stream_models"
NUM_STREAMS = 1000
AT_START = "CudaDriverHelper has not been initialized"  # of a server on a host without a GPU


def plan():
    """Items and place of the cancellation for each stream; what is cancelled has some way to go."""
    dice = random.Random(20261122)
    for number in range(NUM_STREAMS):
        num_items = dice.randint(25, 50) if number % 3 == 0 else dice.randint(0, 50)
        yield num_items, num_items // 2 if number % 3 == 0 else None


async def all_streams(client):
    started = time.monotonic()
    streams = [
        stream(client, "counter", cancel_after=cancel_after, **count_to(num_items, 0.004))
        for num_items, cancel_after in plan()
    ]
    answers = await asyncio.wait_for(asyncio.gather(*streams), 300)
    return answers, time.monotonic() - started


async def num_open(client):
    """How many streams the model still runs, when those that were cancelled had their time."""
    for _ in range(100):
        answer = await stream(client, "counter", **count_to(1))
        if (num := answer.items[0]["OPEN"].item()) == 1:
            break
        await asyncio.sleep(0.1)
    return num - 1


def test_a_thousand_streams_all_end_and_a_third_of_them_early(tmp_path):
    shutil.copytree(MODELS / "counter", tmp_path / "counter")
    server = serve_complete(tmp_path)
    with server:
        answers, seconds = run(server, all_streams)
        left = run(server, num_open)
        started = time.monotonic()
    stopping_seconds = time.monotonic() - started

    for (num_items, cancel_after), answer in zip(plan(), answers, strict=True):
        got = [int(item["I"].item()) for item in answer.items]
        assert answer.errors == []
        assert got == list(range(len(got)))
        assert answer.is_cancelled == (cancel_after is not None)
        if cancel_after is None:
            assert len(got) == num_items
        else:
            assert cancel_after <= len(got) < num_items
    assert sum(answer.is_cancelled for answer in answers) == 334
    assert left == 0
    errors = re.findall(r"^E\d{4} .*", server.log_text(), re.MULTILINE)  # E, month and day
    assert [line for line in errors if AT_START not in line] == []
    assert server.returncode == 0
    assert stopping_seconds < 30
    assert seconds < 200
