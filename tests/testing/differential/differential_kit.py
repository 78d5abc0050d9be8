"""One request, sent to a real server and to a harness; what came back, in a form that can be compared."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype

from kindaware.testing.stand_in import WireTensor

TIMEOUT_SECONDS = 30
CODES = {"INVALID_ARGUMENT": "INVALID_ARG", "UNIMPLEMENTED": "UNSUPPORTED"}
MISTAKES = re.compile("NameError|SyntaxError|IndentationError")
MOST_SHOWN = 8000
REMOVED = [
    (re.compile(r"0x[0-9a-f]+"), "0x"),
    (re.compile(r"  \S*triton_python_backend_utils\.py\(\d+\): \w+\n"), ""),
    (re.compile(r"  <frozen importlib\._bootstrap(_external)?>\(\d+\): \w+\n"), ""),
    (re.compile(r"\((\S*triton_python_backend_utils\.py|unknown location)\)"), "(place)"),
]


@dataclass(frozen=True)
class Ask:
    """One request: inputs by name (arrays, or tensors as they travel), and the arguments of `infer`."""

    inputs: dict[str, Any] = field(default_factory=dict)
    model: str = "runner"
    options: dict[str, Any] = field(default_factory=dict)

    def wires(self):
        return [wire(name, value) for name, value in self.inputs.items()]

    def naming(self, case):
        """The same request, which names the case that the model is to run."""
        return Ask(
            self.inputs,
            self.model,
            {**self.options, "parameters": {"case": case, **self.options.get("parameters", {})}},
        )


@dataclass(frozen=True)
class Seen:
    """What a client saw of one response: outputs as (name, data type, shape, bytes), or code and text."""

    outputs: tuple[Any, ...] = ()
    code: str = ""
    text: str = ""


def ask(model="runner", inputs=None, **options):
    return Ask(dict(inputs or {}), model, options)


def x(*values, **options):
    """A request with the input X."""
    return ask(inputs={"X": np.array(values or (1, 2, 3), np.float32)}, **options)


def wire(name, value, datatype=None):
    if isinstance(value, WireTensor):
        return WireTensor(name, value.datatype, value.shape, value.data)
    return WireTensor.of(name, value, datatype)


def clean(text):
    """Without addresses, and without the places of modules that are elsewhere on the other side."""
    for pattern, instead in REMOVED:
        text = pattern.sub(instead, text)
    return text


class RealSide:
    """Sends to a real server, over gRPC, with nothing between the messages and the comparison."""

    def __init__(self, url):
        self.channel = grpc.insecure_channel(url, options=[("grpc.max_receive_message_length", -1)])
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def close(self):
        self.channel.close()

    def infer(self, asked):
        return self.burst([asked])[0]

    def burst(self, asked):
        """Send all at once, and wait for all."""
        futures = [self.stub.ModelInfer.future(to_message(one), timeout=TIMEOUT_SECONDS) for one in asked]
        return [self._result(future) for future in futures]

    def stream(self, asked):
        answers = self.stub.ModelStreamInfer(iter([to_message(asked)]), timeout=TIMEOUT_SECONDS)
        found = []
        for answer in answers:
            if answer.error_message:
                found.append(Seen(text=clean(answer.error_message)))
            else:
                found.append(seen_in_message(answer.infer_response))
        return found

    def statistics(self, model):
        """How many requests and how many calls of `execute` there were, among others."""
        answer = self.stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=model))
        return answer.model_stats[0]

    @staticmethod
    def _result(future):
        try:
            return seen_in_message(future.result())
        except grpc.RpcError as error:
            name = error.code().name
            return Seen(code=CODES.get(name, name), text=clean(error.details()))


class HarnessSide:
    """Sends to the models of one harness."""

    def __init__(self, harness):
        self.harness = harness

    def infer(self, asked):
        return seen_in_result(self._model(asked).infer(*arguments(asked), **asked.options))

    def batch(self, asked):
        results = self._model(asked[0]).infer_batch(
            [{"inputs": arguments(one)[0], **one.options} for one in asked]
        )
        return [seen_in_result(result) for result in results]

    def stream(self, asked):
        results = self._model(asked).stream(*arguments(asked), **asked.options)
        seen = [seen_in_result(result) for result in results]
        return [Seen(one.outputs, "", one.text) for one in seen]  # a stream's errors have no code

    def _model(self, asked):
        return self.harness.model(asked.model)


def arguments(asked):
    return [{one.name: one for one in asked.wires()}]


def to_message(asked):
    options = asked.options
    message = service_pb2.ModelInferRequest(model_name=asked.model, id=options.get("request_id", ""))
    for tensor in asked.wires():
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        message.raw_input_contents.append(tensor.data)
    for name in options.get("requested_outputs") or []:
        message.outputs.add(name=name)
    for name, value in parameters_of(options).items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
        setattr(message.parameters[name], kind[type(value)], value)
    return message


def parameters_of(options):
    """The request's parameters, with those that Triton reserves for what `infer` has arguments for."""
    found = dict(options.get("parameters", {}))
    if options.get("correlation_id"):
        flags = options.get("flags", 0)
        found["sequence_id"] = options["correlation_id"]
        found["sequence_start"], found["sequence_end"] = bool(flags & 1), bool(flags & 2)
    if options.get("timeout"):
        found["timeout"] = options["timeout"]
    return found


def seen_in_message(message):
    outputs = [
        (output.name, output.datatype, tuple(output.shape), bytes(data))
        for output, data in zip(message.outputs, message.raw_output_contents, strict=True)
    ]
    return Seen(tuple(sorted(outputs)))


def seen_in_result(result):
    if result.error is not None:
        return Seen(code=result.error.code().name, text=clean(result.error.message()))
    return Seen(tuple(sorted(to_raw(name, array) for name, array in result.outputs.items())))


def to_raw(name, array):
    """A client's array as (name, data type, shape, bytes)."""
    tensor = wire(name, array)
    if isinstance(array, np.ndarray):
        assert tensor.datatype == np_to_triton_dtype(array.dtype)
    return (name, tensor.datatype, tuple(tensor.shape), tensor.data)


def assert_same(own, theirs):
    """Compare what was seen; a report is shown observation by observation where it differs."""
    assert not [one for one in theirs if MISTAKES.search(str(one))], "the behaviour itself is wrong"
    if own == theirs:
        return
    differing = []
    for number, (one, other) in enumerate(zip(own, theirs, strict=False)):
        differing += [f"response {number}: {line}" for line in differences(one, other)]
    raise AssertionError(
        f"{len(own)} responses here, {len(theirs)} of the server\n" + "\n".join(differing)[:MOST_SHOWN]
    )


def differences(own, theirs):
    ours_told, theirs_told = told(own), told(theirs)
    if ours_told is None or theirs_told is None:
        return [] if own == theirs else [f"\n  here   {own}\n  server {theirs}"]
    return [
        f"{key}\n  here   {ours_told.get(key)}\n  server {theirs_told.get(key)}"
        for key in {**ours_told, **theirs_told}
        if ours_told.get(key) != theirs_told.get(key)
    ]


def told(seen):
    """The observations of a report: by the expression, or by their number."""
    texts = [data for name, _, _, data in seen.outputs if name == "TEXT"]
    if len(texts) != 1 or len(seen.outputs) != 1:
        return None
    found = {}
    for number, text in enumerate(decode(texts[0])):
        value = json.loads(text)
        found.update(value if isinstance(value, dict) else {str(number): value})
    return flat(found)


def flat(value, path=""):
    """Nested dicts as one."""
    found = {}
    for key, one in value.items():
        found.update(flat(one, f"{path}{key} / ") if isinstance(one, dict) else {f"{path}{key}": one})
    return found


def decode(data):
    while data:
        size = int.from_bytes(data[:4], "little")
        yield data[4 : 4 + size]
        data = data[4 + size :]
