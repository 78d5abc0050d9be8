"""Models out of the documentation, run without a server."""

import json

import numpy as np
import torch
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from kindaware._batch.request import Request
from kindaware._errors import RequestError
from kindaware._hooks.hooks import HOOKS


def parse_config(text):
    """config.pbtxt as the dict that Triton makes of it; an unknown field is an error."""
    message = text_format.Parse(text, ModelConfig())
    config = json_format.MessageToDict(message, preserving_proto_field_name=True)
    for tensor in [*config.get("input", ()), *config.get("output", ())]:
        tensor["dims"] = [int(size) for size in tensor["dims"]]
    for number, group in enumerate(config.get("instance_group", ())):
        group.setdefault("name", f"{config.get('name', 'model')}_{number}")
    return config


def args_for(config, kind="CPU", **more):
    return {
        "model_config": json.dumps(config),
        "model_instance_kind": kind,
        "model_instance_device_id": "0",
        **more,
    }


def initialized(model_class, config):
    model = model_class()
    model.initialize(args_for(config))
    return model


def hook_class(base, code):
    """The page's model with the hooks of a block in place of its own."""
    namespace = {"torch": torch, "RequestError": RequestError, "TritonPythonModel": base}
    exec(compile(code, "<docs>", "exec"), namespace)
    hooks = {name: namespace[name] for name in HOOKS if name in namespace}
    assert hooks, "the block defines no hook"
    if "row_cost" in hooks:  # which divides what is joined
        hooks["collate"] = lambda self, name, tensors: torch.cat(tensors)
    derived = type(base.__name__, (base,), hooks)
    namespace["TritonPythonModel"] = derived  # super(TritonPythonModel, self) in a hook
    return derived


def requests_for(config, rows, size=3):
    """One request per number of rows, of ones; `size` where the configuration has -1."""
    batches = config.get("max_batch_size", 0) > 0
    requests = []
    for number, num_rows in enumerate(rows):
        inputs = {
            tensor["name"]: ones(
                [*([num_rows] if batches else []), *(size if n == -1 else n for n in tensor["dims"])],
                tensor["data_type"],
            )
            for tensor in config["input"]
        }
        requests.append(Request(str(number), inputs, num_rows if batches else None))
    return requests


def ones(shape, data_type):
    if data_type == "TYPE_STRING":
        return np.full(shape, b"1", dtype=object)
    return torch.ones(shape, dtype={"TYPE_FP32": torch.float32, "TYPE_INT64": torch.int64}[data_type])


def run(model, requests):
    return model._kindaware_instance._pipeline.run(requests)
