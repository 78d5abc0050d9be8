"""The code in the table of modes, run as it stands there, and the test of each mode on the server."""

import asyncio
import contextlib
import io

import numpy as np
import pytest
import torch
from docs_pages import ROOT, code_in, table_with

from kindaware import Done, KindAwareModel, Next
from kindaware.testing import ModelHarness

ROWS = {row[0]: code_in(row[1]) for row in table_with(ROOT / "docs" / "reference" / "modes.md", "Mode")}
STREAMS = {"model_transaction_policy": {"decoupled": True}}


def tensor(name, dims=(1,), data_type="TYPE_FP32", **more):
    return {"name": name, "dims": list(dims), "data_type": data_type, **more}


def config(*inputs, output=None, **more):
    return {"name": "m", "max_batch_size": 8, "input": inputs, "output": [output or tensor("Y")], **more}


def floats(*values):
    return np.array([values], np.float32)


def text(value):
    return np.array([[value]], dtype=object)


def with_model(module):
    return {"load": lambda self: module}


class Doubled(torch.nn.Module):
    def forward(self, X):
        return X * 2


class SumAndLength(torch.nn.Module):
    def forward(self, ids, lengths):
        return (ids.sum(dim=1) + lengths).float().unsqueeze(1)


class LessThanLengths(torch.nn.Module):
    def forward(self, IDS, lengths):
        return IDS - lengths.unsqueeze(1)


class Echo(KindAwareModel):
    def load(self):
        return None

    def forward(self, X):
        return X


class Count(KindAwareModel):
    def load(self):
        return None

    def stream(self, X):
        yield X
        yield X + 1


@contextlib.asynccontextmanager
async def upstream(self, N):
    async def answers():
        yield N
        yield N + 1

    yield answers()


def other(model_class, name, **more):
    return model_class, config(tensor("X")) | {"name": name} | more


X = tensor("X")
OPEN = tensor("X", [-1], allow_ragged_batch=True)
ECHO = [other(Echo, "echo"), other(Echo, "queued")]
SEQUENCE = {"correlation_id": 7}

# By a part of the row's first column: configuration, what the code needs beside it, requests, answers in Y.
CASES = {
    "Text and other bytes": (
        config(tensor("TEXT", data_type="TYPE_STRING"), output=tensor("Y", data_type="TYPE_STRING")),
        {},
        [{"TEXT": text(b"a\xff")}, {"TEXT": text(b"b")}],
        [[[b"A\xff"]], [[b"B"]]],
    ),
    "Scalars": (
        config(tensor("X", reshape={"shape": []}), output=tensor("Y", reshape={"shape": []})),
        {},
        [{"X": floats(2)}],
        [[6]],
    ),
    "BF16, BOOL": (config(X), {}, [{"X": floats(2)}], [[[2]]]),
    "Optional inputs": (
        config(X, tensor("SCALE", optional=True)),
        {},
        [{"X": floats(2)}, {"X": floats(2), "SCALE": floats(5)}],
        [[[2]], [[10]]],
    ),
    "a forward for each shape": (
        config(OPEN, output=tensor("Y", [-1])),
        with_model(Doubled()),
        [{"X": floats(1)}, {"X": floats(1, 2)}],
        [[[2]], [[2, 4]]],
    ),
    ", padded": (
        config(tensor("IDS", [-1]), output=tensor("Y", [-1])),
        with_model(LessThanLengths()),
        [{"IDS": floats(5)}, {"IDS": floats(1, 2)}],
        [[[4]], [[-1, 0]]],
    ),
    "[Text, tokenised]": (
        config(tensor("TEXT", data_type="TYPE_STRING")),
        with_model(SumAndLength()),
        [{"TEXT": text(b"a")}, {"TEXT": text(b"bcd")}],
        [[[98]], [[300]]],
    ),
    "Outputs of different size": (
        config(tensor("X", [2]), output=tensor("Y", [-1])),
        {},
        [{"X": floats(1, -1)}, {"X": floats(2, 3)}],
        [[[1]], [[2, 3]]],
    ),
    "joined by [`collate`]": (
        config(OPEN, output=tensor("Y", [-1])),
        {},
        [{"X": floats(1)}, {"X": floats(1, 2)}],
        [[[1]], [[1, 2]]],
    ),
    "Request metadata": (config(X), with_model(Doubled()), [{"X": floats(2)}], [[[4]]]),
    "Response parameters": (config(X), {}, [{"X": floats(2)}], [[[2]]]),
    "Cancelled requests": (config(X), {}, [{"X": floats(2)}], [[[2]]]),
    "strategies `direct` and `oldest`": (
        config(X, sequence_batching={"oldest": {}}),
        {},
        [{"X": floats(2), **SEQUENCE, "flags": 1}, {"X": floats(3), **SEQUENCE}],
        [[[2]], [[5]]],
    ),
    "iterative": (
        config(X, sequence_batching={"iterative_sequence": True}),
        {},
        [{"X": floats(2)}],
        [[[2]]],
    ),
    "[Calls of other models]": (config(X), {}, [{"X": floats(2)}], [[[3]]]),
    "Calls side by side": (config(X), {}, [{"X": floats(2)}], [[[16 * 2 + 15 * 8]]]),
    "within the request's timeout": (config(X), {}, [{"X": floats(2)}], [[[2]]]),
    "Metrics": (config(X), {}, [{"X": floats(2)}], [[[2]]]),
    "Shutdown": (config(X), {"file": io.StringIO()}, [{"X": floats(2)}], [[[2]]]),
    "Readiness": (config(X), {"is_filled": True}, [{"X": floats(2)}], [[[2]]]),
}
N = tensor("N", data_type="TYPE_INT32")
NUMBERS = config(N, output=tensor("Y", data_type="TYPE_INT32"), **STREAMS)
STREAM_CASES = {
    ", by a generator": (NUMBERS, {}, [0, 1, 2]),
    ", several streams at once": (NUMBERS, {}, [0, 1, 2]),
    ", all streams in one forward per step": (NUMBERS, {}, [0, 1, 2]),
    "to a client that cancels": (
        NUMBERS,
        {"steps": lambda self, N: iter([N, N + 1]), "close": lambda self: None},
        [3, 4],
    ),
    "waiting while the client disconnects": (NUMBERS, {"upstream": upstream}, [3, 4]),
    "Calls of models that stream": (config(X, **STREAMS), {}, [3, 4]),
}
WITHOUT_CODE = ("Deadlines in the queue", "through the generate endpoint")

# Each mode's test on the server, by file.
ON_SERVER = {
    "test_requests_on_server.py": {
        "Text and other bytes": "test_text_of_any_bytes_keeps_them_and_its_rows",
        "Scalars": "test_scalars_keep_every_bit_and_bf16_stays_bf16",
        "Optional inputs": "test_requests_with_and_without_an_optional_input_have_batches_of_their_own",
        "a forward for each shape": "test_requests_of_different_length_are_apart_or_joined_by_collate",
        ", padded": "test_requests_of_different_length_share_a_padded_batch",
        "[Text, tokenised]": "test_text_that_preprocess_tokenises_shares_a_padded_batch",
        "Outputs of different size": "test_outputs_of_different_size_come_from_one_forward",
        "joined by [`collate`]": "test_requests_of_different_length_are_apart_or_joined_by_collate",
        "Request metadata": "test_hooks_get_what_requests_say_about_themselves",
        "Response parameters": "test_response_parameters_are_sent_or_refused_for_that_request_alone",
        "Cancelled requests": "test_request_cancelled_before_its_batch_costs_no_forward_where_asked_for",
        "Deadlines in the queue": "test_request_that_waits_longer_than_the_queue_policy_allows_is_refused",
    },
    "test_tensors_on_server.py": {
        "BF16, BOOL": "test_echo_of_every_data_type_keeps_every_bit",
    },
    "test_streaming_on_server.py": {
        ", by a generator": "test_stream_over_grpc_gives_each_item_and_one_final",
        ", several streams at once": "test_streams_run_side_by_side_when_the_generator_is_asynchronous",
        "to a client that cancels": "test_stream_that_its_client_cancels_is_closed",
        "client disconnects": "test_stream_that_waits_for_an_hour_is_closed_when_its_client_has_gone",
        "through the generate endpoint": "test_stream_over_the_generate_endpoint_gives_an_event_per_item",
    },
    "test_steps_on_server.py": {
        "in one forward per step": "test_step_streams_run_together_and_one_that_fails_fails_alone",
    },
    "test_sequences_on_server.py": {
        "strategies `direct` and `oldest`": "test_interleaved_sequences_keep_their_own_state",
        "iterative": "test_request_that_is_rescheduled_comes_again_with_its_state",
    },
    "test_calls_on_server.py": {
        "[Calls of other models]": "test_call_sends_what_forward_has_computed",
        "Calls side by side": "test_call_async_runs_calls_side_by_side",
        "Calls of models that stream": "test_stream_of_calls_gives_each_item",
        "'s timeout": "test_call_is_bounded_by_the_time_of_the_request_where_the_called_queue_keeps_to_it",
    },
    "test_metrics_on_server.py": {
        "Metrics": "test_metrics_after_good_and_refused_requests_count_both",
    },
    "test_life_cycle_on_server.py": {
        "Shutdown": "test_each_instance_unloads_once_and_one_that_raises_holds_nobody_up",
        "Readiness": "test_server_asks_whether_a_model_is_ready_from_26_03_on",
    },
}


def find_row(part):
    [row] = [row for row in ROWS if part in row]
    return row


def open_model(part, model_config, members):
    source = "\n ".join(["class Model(KindAwareModel):", *ROWS[find_row(part)]])
    names = {"KindAwareModel": KindAwareModel, "Next": Next, "Done": Done, "asyncio": asyncio, "torch": torch}
    exec(source, names)
    model_class = names["Model"]
    for name, member in members.items():
        setattr(model_class, name, member)
    if "load" not in members:
        model_class.load = lambda self: None
    if not {"forward", "stream", "step"} & set(vars(model_class)):
        model_class.forward = Echo.forward
    models = [*ECHO, other(Count, "count", **STREAMS)] if "Calls" in find_row(part) else []
    return ModelHarness(model_class, config=model_config, models=models, server_version="current")


def test_each_row_has_a_case():
    parts = [*CASES, *STREAM_CASES, *WITHOUT_CODE]
    assert sorted(find_row(part) for part in parts) == sorted(ROWS)
    assert all(2 <= len(code) <= 5 for row, code in ROWS.items() if len(code) > 1), "about five lines"


def test_each_row_has_a_test_on_the_server():
    parts = [part for tests in ON_SERVER.values() for part in tests]
    assert sorted(find_row(part) for part in parts) == sorted(ROWS)
    for file, tests in ON_SERVER.items():
        source = (ROOT / "tests" / "server" / file).read_text()
        assert "pytestmark = pytest.mark.server" in source
        assert [name for name in tests.values() if f"\ndef {name}(" not in source] == []


@pytest.mark.parametrize("part", CASES)
def test_code_of_a_mode_answers(part):
    model_config, members, requests, expected = CASES[part]
    with open_model(part, model_config, members) as model:
        if "sequence_batching" in model_config:
            results = [model.infer(**request) for request in requests]
        else:
            results = model.infer_batch([{"inputs": inputs} for inputs in requests])
    assert [one.outputs["Y"].tolist() for one in results] == expected
    if part == "Response parameters":
        assert results[0].parameters == {"tokens": 7}
    if part == "The end":
        assert members["file"].closed


@pytest.mark.parametrize("part", STREAM_CASES)
def test_code_of_a_mode_streams(part):
    model_config, members, expected = STREAM_CASES[part]
    name = model_config["input"][0]["name"]
    number = np.array([[3]], np.int32 if name == "N" else np.float32)
    with open_model(part, model_config, members) as model:
        items = [one.outputs["Y"].item() for one in model.stream(**{name: number})]
    assert items == expected
