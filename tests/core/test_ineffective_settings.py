"""The line of an instance that is ready names the settings that can have no effect on it."""

import pytest
import torch
from core_kit import Doubler, start, tensor
from torch import nn

from kindaware import KindAwareModel
from kindaware.testing.accelerator import SimulatedAccelerator

RAGGED = {"input": [tensor("X", [-1], allow_ragged_batch=True)], "output": [tensor("Y", [-1])]}
JOINED = RAGGED | {"output": [tensor("Y", [1])]}
SHAPES_APART = {"input": [tensor("X", [-1], allow_ragged_batch=False)], "output": [tensor("Y", [-1])]}
IMAGES = {"input": [tensor("X", [3, 8, 8])], "output": [tensor("Y", [3, 8, 8])]}
SEQUENCES = {"sequence_batching": {"direct": {}}}
DECOUPLED = {"model_transaction_policy": {"decoupled": True}}
ALL_CORES = "32767"


class WithModule(Doubler):
    def load(self):
        return nn.Identity()


class Joins(Doubler):
    def collate(self, name, tensors):
        return torch.cat(tensors)


class Costs(Joins):
    def row_cost(self, inputs):
        return 1


class Prepares(Joins):
    def preprocess(self, inputs):
        return inputs


class Stream(KindAwareModel):
    def load(self):
        """Make nothing."""

    def stream(self, X):
        yield X


class Stepped(KindAwareModel):
    def load(self):
        return None

    def begin(self, X):
        return X

    def step(self, states):
        return states


class AsynchronousStream(Stream):
    async def stream(self, X):
        yield X


def phrase(caplog, model_class=Doubler, settings=None, **changes):
    """What the last line says after the warm-up."""
    parameters = {f"kindaware.{key}": value for key, value in (settings or {}).items()}
    simulated = SimulatedAccelerator(2)
    with caplog.at_level("INFO"), simulated.installed(lambda *_: None), simulated.entered():
        start(model_class, parameters=parameters, **changes)
    return caplog.messages[-1].partition("; without effect: ")[2]


@pytest.mark.parametrize(
    ("settings", "why", "changes"),
    [
        ({"on_missing_gpu": "cpu"}, "no GPU is asked for", {}),
        ({"model_devices": "all"}, "only for KIND_MODEL", {}),
        ({"num_threads": ALL_CORES}, "more than the cores of this process", {}),
        ({"num_threads": "share"}, "same as auto on a GPU", {"kind": "GPU"}),
        ({"keep_memory": "off"}, "on a GPU", {"kind": "GPU"}),
        ({"primitive_cache": "8"}, "on a GPU", {"kind": "GPU"}),
        ({"move_modules": "false"}, "no module on self", {}),
        ({"memory_format": "channels_last"}, "no input with 4 dimensions", {}),
        ({"compile": "default"}, "no module on self", {}),
        ({"compile_cache": "true"}, "compile is off", {}),
        ({"optimize": "auto"}, "on a GPU", {"kind": "GPU", "model_class": WithModule}),
        ({"optimize": "auto"}, "only on a server", {"model_class": WithModule}),
        ({"tolerance": "0.1"}, "only for optimize", {}),
        ({"cuda_graphs": "1"}, "on the CPU", {}),
        ({"output_device": "instance"}, "on the CPU", {}),
        ({"pinned_limit_bytes": "0"}, "on the CPU", {}),
        ({"overlap_calls": "true"}, "on the CPU", {}),
        (
            {"overlap_calls": "true"},
            "streams answer by themselves",
            {"kind": "GPU", "model_class": Stream, **DECOUPLED},
        ),
        ({"allow_response_cache": "true"}, "no response_cache", {}),
        ({"reload_on_fault": "true"}, "on the CPU", {}),
        ({"primitive_cache": "8"}, "ONEDNN_PRIMITIVE_CACHE_CAPACITY is set", {}),
        ({"cancellation": "on"}, "same as auto for a decoupled model", {"model_class": Stream, **DECOUPLED}),
        ({"isolate_errors": "false"}, "no request shares a batch", {"max_batch_size": 0}),
        ({"isolate_errors": "false"}, "no request shares a batch", {"max_batch_size": 1}),
        ({"isolate_errors": "false"}, "no request shares a batch", {"model_class": Stream, **DECOUPLED}),
        ({"max_isolation": "1"}, "no forward is run again", {"max_batch_size": 0}),
        ({"max_isolation": "1"}, "no forward is run again", {"model_class": Stream, **DECOUPLED}),
        ({"unpad": "Y=X"}, "no output follows a padded input", RAGGED),
        ({"unpad": "Y=X"}, "no output follows a padded input", {"model_class": Stream, **DECOUPLED}),
        ({"pad": "X=0", "unpad": "Y=X"}, "allow_ragged_batch is not true", SHAPES_APART),
        ({"max_padding": "0.5"}, "nothing is padded", {}),
        ({"max_padding": "0.5"}, "nothing is padded", {"model_class": Joins, **JOINED}),
        ({"max_rows_per_forward": "8"}, "no forward gets more rows", {}),
        ({"max_rows_per_forward": "1"}, "no forward gets more rows", {"max_batch_size": 0}),
        ({"max_rows_per_forward": "1"}, "no forward gets more rows", {"model_class": Stream, **DECOUPLED}),
        ({"max_streams": "2"}, "no asynchronous stream", {}),
        ({"max_streams": "2"}, "no asynchronous stream", {"model_class": Stream, **DECOUPLED}),
        ({"max_begins_per_step": "2"}, "no step", {"model_class": AsynchronousStream, **DECOUPLED}),
        ({"drain_seconds": "2"}, "no step", {"model_class": AsynchronousStream, **DECOUPLED}),
        ({"items_per_response": "2"}, "no stream", {}),
        ({"drain_seconds": "2"}, "no step", {}),
        ({"max_stream_bytes": "2"}, "no stream", {}),
        ({"max_sequences": "2"}, "no sequence_batching", {}),
    ],
)
def test_setting_without_effect_is_named(caplog, settings, why, changes):
    name = next(iter(settings))
    assert phrase(caplog, settings=settings, **changes) == f"{name} ({why})"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "no module on self"),
        ({"model_class": Stream, **DECOUPLED}, "with streams or sequences"),
        ({"model_class": WithModule, **SEQUENCES, "dynamic_batching": None}, "with streams or sequences"),
    ],
)
def test_optimize_without_effect_names_each_reason(caplog, changes, why):
    assert f"optimize ({why})" in phrase(caplog, settings={"optimize": "auto"}, **changes)


def test_optimize_on_a_server_is_not_named(caplog, monkeypatch):
    monkeypatch.setattr("kindaware._instance.is_stub", lambda: True)
    monkeypatch.setattr("kindaware._instance.Instance._optimize", lambda self, call: None)
    settings = {"optimize": "auto", "tolerance": "0.1", "num_threads": "1"}
    assert phrase(caplog, model_class=WithModule, settings=settings) == ""


def test_wait_policy_of_a_single_thread_is_named(caplog):
    found = phrase(caplog, settings={"wait_policy": "passive", "num_threads": "1"})
    assert found == "wait_policy (a single thread waits for none)"


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({}, {}),
        ({"on_missing_gpu": "cpu"}, {"kind": "GPU"}),
        ({"model_devices": "all"}, {"kind": "MODEL"}),
        ({"num_threads": "1"}, {}),
        ({"num_threads": "share"}, {}),
        ({"num_threads": "1"}, {"kind": "GPU"}),
        ({"keep_memory": "off"}, {}),
        ({"memory_format": "channels_last"}, IMAGES),
        ({"move_modules": "false"}, {"model_class": WithModule}),
        ({"output_device": "instance"}, {"kind": "GPU"}),
        ({"pinned_limit_bytes": "0"}, {"kind": "GPU"}),
        ({"overlap_calls": "true"}, {"kind": "GPU"}),
        ({"isolate_errors": "false"}, {}),
        ({"isolate_errors": "false"}, SEQUENCES | {"dynamic_batching": None}),
        ({"max_isolation": "1"}, {}),
        ({"max_isolation": "1"}, RAGGED | {"max_batch_size": 1}),
        ({"max_isolation": "1"}, {"model_class": Stepped, **DECOUPLED}),
        ({"primitive_cache": "1024"}, {}),
        ({"cancellation": "off"}, {"model_class": Stream, **DECOUPLED}),
        ({"cancellation": "on"}, {}),
        ({"unpad": "Y=X"}, {"model_class": Joins, **RAGGED}),
        ({}, {"model_class": Joins}),
        ({"unpad": "Y=X"}, {"model_class": Prepares, **SHAPES_APART}),
        ({"pad": "X=0", "unpad": "Y=X"}, RAGGED),
        ({"max_padding": "0.5", "pad": "X=0", "unpad": "Y=X"}, RAGGED),
        ({"max_padding": "0.5"}, {"model_class": Costs, **JOINED}),
        ({"max_rows_per_forward": "7"}, {}),
        ({"max_rows_per_forward": "auto"}, {}),
        ({"max_streams": "2"}, {"model_class": AsynchronousStream, **DECOUPLED}),
        ({"max_streams": "2"}, {"model_class": Stepped, **DECOUPLED}),
        ({"max_begins_per_step": "2", "drain_seconds": "2"}, {"model_class": Stepped, **DECOUPLED}),
        ({"items_per_response": "2"}, {"model_class": Stepped, **DECOUPLED}),
        ({"items_per_response": "2"}, {"model_class": Stream, **DECOUPLED}),
        ({"isolate_errors": "false"}, {"model_class": Stepped, **DECOUPLED}),
        ({"max_sequences": "2"}, SEQUENCES),
        ({"max_streams": "64", "pinned_limit_bytes": str(2**28)}, {}),
    ],
)
def test_setting_with_an_effect_is_not_named(caplog, settings, changes):
    assert phrase(caplog, settings=settings, **changes) == ""


def test_isolation_is_named_where_dynamic_batching_is_off(caplog):
    found = phrase(caplog, settings={"isolate_errors": "false"}, dynamic_batching=None)
    assert found.startswith("isolate_errors (no request shares a batch), max_batch_size 8 (dynamic_batching")


def test_collate_of_requests_that_the_server_keeps_apart_is_named(caplog):
    found = phrase(caplog, Joins, settings={"unpad": "Y=X"}, **SHAPES_APART)
    assert found == "collate (allow_ragged_batch is not true: requests of one size only)"
    assert "collate" not in phrase(
        caplog, Joins, settings={"unpad": "Y=X"}, **SHAPES_APART, dynamic_batching=None
    )


def test_items_per_response_of_outputs_that_stay_on_the_gpu_is_named(caplog):
    settings = {"items_per_response": "2", "output_device": "instance"}
    found = phrase(caplog, Stream, settings=settings, kind="GPU", **DECOUPLED)
    assert found == "items_per_response (outputs stay on the GPU)"


def test_batching_that_is_off_is_named(caplog):
    found = phrase(caplog, config=None, dynamic_batching=None)
    assert found == "max_batch_size 8 (dynamic_batching is off: one request per call)"
    assert phrase(caplog, dynamic_batching=None, max_batch_size=1) == ""


def test_several_are_named_together(caplog):
    found = phrase(caplog, settings={"cuda_graphs": "1", "max_sequences": "3"})
    assert found == "cuda_graphs (on the CPU), max_sequences (no sequence_batching)"
