"""`max_stream_bytes`: what one stream may come to, since the server keeps what its client doesn't read."""

import asyncio

import pytest
import torch
from stream_kit import CONFIG, Model, open_harness

from kindaware._triton.response_sender import ITEM_BYTES
from kindaware.testing import ModelHarness

FLOATS = {**CONFIG, "output": [{"name": "I", "data_type": "TYPE_FP32", "dims": [-1]}]}
KIB = 1024


class Plain(Model):
    def stream(self, N):
        try:
            for _ in range(int(N[0, 0])):
                yield torch.zeros(1, 15 * KIB // 4)
        finally:
            self.ended += 1


class Async(Model):
    async def stream(self, N):
        try:
            for _ in range(int(N[0, 0])):
                await asyncio.sleep(0)
                yield torch.zeros(1, 15 * KIB // 4)
        finally:
            self.ended += 1


BOTH = pytest.mark.parametrize("model_class", [Plain, Async])


def open_limited(model_class, limit, **options):
    parameters = {"kindaware.warmup": "off", "kindaware.max_stream_bytes": str(limit)}
    return open_harness(model_class, config=FLOATS, parameters=parameters, **options)


def outcome(results):
    results = list(results)
    errors = [one.error.message() for one in results if one.error is not None]
    return len(results) - len(errors), errors


@BOTH
def test_stream_beyond_its_limit_ends_with_an_error_and_is_closed(model_class):
    with open_limited(model_class, 64 * KIB) as model:
        results = list(model.stream(N=[[100]], request_id="r"))
        assert results[-1].error.code().name == "INVALID_ARG"
        assert model.instance.ended == 1
        num_items, [text] = outcome(results)
    assert num_items == 64 // (15 + ITEM_BYTES // KIB)
    assert text.startswith(
        "model 's' request 'r': expected a stream of at most 65536 bytes (max_stream_bytes), got more after "
        "4 items; ask for less at once, or raise kindaware.max_stream_bytes"
    )


@BOTH
def test_stream_of_exactly_its_limit_is_whole_and_the_next_begins_anew(model_class):
    with open_limited(model_class, 64 * KIB) as model:
        assert [outcome(model.stream(N=[[4]])) for _ in range(3)] == [(4, [])] * 3


@BOTH
def test_stream_without_a_limit_goes_on(model_class):
    with open_limited(model_class, 0) as model:
        assert outcome(model.stream(N=[[200]])) == (200, [])


def test_stream_output_that_nobody_asked_for_does_not_count():
    config = {**FLOATS, "output": [*FLOATS["output"], {"name": "J", "data_type": "TYPE_FP32", "dims": [1]}]}

    class Two(Model):
        def stream(self, N):
            for _ in range(int(N[0, 0])):
                yield torch.zeros(1, 15 * KIB // 4), torch.zeros(1, 1)

    parameters = {"kindaware.warmup": "off", "kindaware.max_stream_bytes": str(64 * KIB)}
    with ModelHarness(Two, config=config, parameters=parameters, raise_errors=False) as model:
        assert outcome(model.stream(N=[[20]], requested_outputs=["J"])) == (20, [])
        assert outcome(model.stream(N=[[20]]))[0] == 3


def test_stream_of_text_counts_its_bytes_and_their_lengths():
    config = {**CONFIG, "output": [{"name": "I", "data_type": "TYPE_STRING", "dims": [2]}]}

    class Text(Model):
        def stream(self, N):
            for _ in range(int(N[0, 0])):
                yield [["x" * (15 * KIB - 9), "y"]]

    parameters = {"kindaware.warmup": "off", "kindaware.max_stream_bytes": str(64 * KIB)}
    with ModelHarness(Text, config=config, parameters=parameters, raise_errors=False) as model:
        assert outcome(model.stream(N=[[4]])) == (4, [])
        assert outcome(model.stream(N=[[5]]))[0] == 4


@pytest.mark.parametrize("is_async", [False, True])
def test_stream_parameters_of_its_items_count_names_and_text(is_async):
    class Telling(Model):
        def stream(self, N, requests):
            requests[0].response_parameters["é" * KIB] = "x" * 13 * KIB
            requests[0].response_parameters["n"] = 2**40
            for _ in range(int(N[0, 0])):
                yield torch.zeros(1, 1)

    class Async(Telling):
        async def stream(self, N, requests):
            for one in super().stream(N, requests):
                yield one

    model_class = Async if is_async else Telling
    with open_limited(model_class, 65 * KIB, server_version="current") as model:
        assert outcome(model.stream(N=[[4]])) == (4, [])
        num_items, [text] = outcome(model.stream(N=[[100]]))
    assert num_items == 4
    assert "expected a stream of at most 66560 bytes (max_stream_bytes), got more after 4 items" in text
