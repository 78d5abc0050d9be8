"""What a client may send, drawn by hypothesis: requests that are right, nearly right, and anything else."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

MODELS = ("batched", "pipeline", "sequence", "streaming", "step")
STREAMING = ("streaming", "step")

_TYPES = ("BOOL", "UINT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES", "BF16")
_SIZES = {
    "BOOL": 1,
    "UINT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
    "BF16": 2,
}
_FORMATS = {"INT32": "i", "INT64": "q", "FP32": "f"}


@dataclass(frozen=True)
class Tensor:
    """An input: what is said of it, and its values.

    Attributes:
        name: as it is sent.
        datatype: as it is sent.
        shape: as it is sent.
        values: flat, as they are sent; None if `data` is not made of them.
        data: bytes of the binary form.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: tuple[Any, ...] | None
    data: bytes


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        model: which of the repository's models, or any other name.
        protocol: `http`, `grpc`, `stream` for a stream of gRPC, or `generate` for that endpoint of HTTP.
        request_id: the client's id.
        tensors: the inputs.
        parameters: of the request.
        outputs: what is asked for; None for all.
        is_binary: whether HTTP carries the inputs behind the JSON.
        headers: further headers of HTTP.
        body: the whole body of HTTP; None for that of the request.
        is_whole: whether as much is sent as is announced, so that an answer must come.
    """

    model: str
    protocol: str
    request_id: str = ""
    tensors: tuple[Tensor, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] | None = None
    is_binary: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    is_whole: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of HTTP."""
        inputs = []
        for one in self.tensors:
            entry: dict[str, Any] = {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
            if self.is_binary or one.values is None:
                entry["parameters"] = {"binary_data_size": len(one.data)}
            else:
                entry["data"] = [
                    value.decode("latin-1") if isinstance(value, bytes) else value for value in one.values
                ]
            inputs.append(entry)
        request: dict[str, Any] = {"inputs": inputs}
        if self.request_id:
            request["id"] = self.request_id
        if self.parameters:
            request["parameters"] = self.parameters
        if self.outputs is not None:
            request["outputs"] = [{"name": name} for name in self.outputs]
        return request


def pack(datatype: str, values: tuple[Any, ...]) -> bytes:
    """Return values in the binary form."""
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(one)) + one for one in values)
    return struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)


_names = st.one_of(
    st.sampled_from(["KEY", "VALUES", "TEXT", "COUNT", "VALUE", "DOUBLED", "", "key", "KEY\0", "x" * 300]),
    st.text(max_size=12),
)
_ids = st.one_of(
    st.just(""), st.text(max_size=20), st.text("\0\n\r\t\"\\%/'", max_size=6), st.just("i" * 5000)
)
_floats = st.one_of(
    st.floats(width=32),
    st.sampled_from([0.0, 1.0, -1.0, 1e30, 2e30, float("nan"), float("inf"), -float("inf")]),
)
_keys = st.integers(-3, 2**62) | st.sampled_from([2**63 - 1, -(2**63), 0])
_texts = st.binary(max_size=20) | st.sampled_from([b"", b"\0", b"\xff\xfe", "ü".encode(), b"t" * 3000])
_counts = st.integers(-5, 12) | st.sampled_from([2**31 - 1, -(2**31), 1_001, 10_000_000])
_dims = st.integers(-3, 40) | st.sampled_from([0, 2**31, 2**32, 2**62, -(2**63), 2**63 - 1])
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64), st.floats(allow_nan=False), st.text(max_size=8)
)
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_sequence = st.fixed_dictionaries(
    {"sequence_id": st.integers(0, 6) | st.integers(0, 2**64 - 1) | st.text(max_size=8)},
    optional={"sequence_start": st.booleans(), "sequence_end": st.booleans()},
)
_known_parameters = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.integers(0, 2**64 - 1) | _scalars,
        "timeout": st.integers(0, 2**63) | _scalars,
        "sequence_id": _scalars,
        "sequence_start": _scalars,
        "sequence_end": _scalars,
        "binary_data_output": st.booleans() | _scalars,
        "triton_enable_empty_final_response": st.booleans() | _scalars,
        "kindaware.error_detail": st.just("full"),
    },
)
_parameters = st.one_of(
    st.just({}), _known_parameters, st.dictionaries(st.text(max_size=10), _scalars, max_size=3)
)


@st.composite
def _right(draw: Callable[..., Any], model: str) -> tuple[Tensor, ...]:
    """Inputs that the model's configuration allows."""
    key = draw(_keys)
    if model in STREAMING:
        count = draw(_counts)
        return make_tensor("KEY", "INT64", (1, 1), (key,)), make_tensor("COUNT", "INT32", (1, 1), (count,))
    rows = draw(st.integers(1, 4))
    keys = tuple(min(key + row, 2**63 - 1) for row in range(rows))
    if model == "sequence":
        value = draw(st.integers(-1, 1000))
        return make_tensor("KEY", "INT64", (rows, 1), keys), make_tensor(
            "VALUE", "INT64", (rows, 1), (value,) * rows
        )
    width = draw(st.integers(0, 6))
    values = tuple(draw(st.lists(_floats, min_size=rows * width, max_size=rows * width)))
    texts = tuple(draw(st.lists(_texts, min_size=rows, max_size=rows)))
    return (
        make_tensor("KEY", "INT64", (rows, 1), keys),
        make_tensor("VALUES", "FP32", (rows, width), values),
        make_tensor("TEXT", "BYTES", (rows, 1), texts),
    )


def make_tensor(name: str, datatype: str, shape: tuple[int, ...], values: tuple[Any, ...]) -> Tensor:
    """Return an input whose data are its values."""
    return Tensor(name, datatype, shape, values, pack(datatype, values))


@st.composite
def _wrong_tensor(draw: Callable[..., Any], tensor: Tensor) -> Tensor:
    """An input that is not quite what it says."""
    shape = draw(st.lists(_dims, max_size=4).map(tuple) | st.just(tensor.shape))
    datatype = draw(st.sampled_from(_TYPES) | st.just(tensor.datatype) | st.text(max_size=6))
    data = draw(
        st.one_of(
            st.just(tensor.data),
            st.binary(max_size=64),
            st.integers(0, len(tensor.data)).map(lambda end: tensor.data[:end]),
            # Lengths of BYTES that lead out of the buffer.
            st.integers(0, 2**32 - 1).map(lambda length: struct.pack("<I", length) + b"abc"),
        )
    )
    name = draw(st.just(tensor.name) | _names)
    return Tensor(name, datatype, shape, None, data)


@st.composite
def _structured(draw: Callable[..., Any]) -> Case:
    """A request with a form: right, or with some of its parts wrong."""
    model = draw(st.sampled_from(MODELS))
    tensors = draw(_right(model))
    if draw(st.booleans()):
        which = draw(st.integers(0, len(tensors) - 1))
        changed = draw(_wrong_tensor(tensors[which]))
        how = draw(st.sampled_from(["replace", "drop", "repeat", "add"]))
        rest = (*tensors[:which], *tensors[which + 1 :])
        tensors = {
            "replace": (*tensors[:which], changed, *tensors[which + 1 :]),
            "drop": rest,
            "repeat": (*tensors, tensors[which]),
            "add": (*tensors, changed),
        }[how]
    named = draw(st.just(model) | st.sampled_from([*MODELS, "nothing", "", "../batched"]))
    protocols = ["stream", "generate", "grpc", "http"] if model in STREAMING else ["http", "grpc", "stream"]
    parameters = draw(_parameters)
    if model == "sequence" or draw(st.integers(0, 9)) == 0:
        parameters = {**parameters, **draw(_sequence)}
    return Case(
        model=named,
        protocol=draw(st.sampled_from(protocols)),
        request_id=draw(_ids),
        tensors=tensors,
        parameters=parameters,
        outputs=draw(st.none() | st.lists(_names, max_size=3).map(tuple)),
        is_binary=draw(st.booleans()),
        headers=draw(_headers) if draw(st.integers(0, 4)) == 0 else (),
    )


_header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
_numbers = st.integers(-2, 2**64).map(str)
_ENCODINGS = ["gzip", "deflate", "br", "identity", "x, y", "gzip;q=0", "*", ","]
_headers = st.lists(
    st.one_of(
        st.tuples(st.just("Inference-Header-Content-Length"), _numbers | _header_values),
        st.tuples(st.sampled_from(["Content-Encoding", "Accept-Encoding"]), st.sampled_from(_ENCODINGS)),
        st.tuples(st.just("Content-Type"), st.sampled_from(["text/plain", "multipart/x"])),
        st.tuples(st.just("traceparent"), st.just(f"00-{'1' * 32}-{'2' * 16}-01") | _header_values),
        st.tuples(st.sampled_from(["X-A", "endpoint-load-metrics-format", "Range"]), _header_values),
        st.tuples(st.just("X-Long"), st.just("h" * 2000)),
    ),
    max_size=3,
).map(tuple)


@st.composite
def _raw(draw: Callable[..., Any]) -> Case:
    """Any JSON, any bytes, or the JSON of a request with a part of it replaced or cut."""
    case = draw(_structured())
    body = json.dumps(case.to_json()).encode()
    start = draw(st.integers(0, len(body)))
    end = draw(st.integers(start, min(len(body), start + 40)))
    request = case.to_json()
    place = draw(st.sampled_from(["id", "parameters", "inputs", "outputs"]))
    changed = draw(
        st.one_of(
            _json.map(lambda value: json.dumps(value).encode()),
            _json.map(lambda value: json.dumps({**request, place: value}).encode()),
            st.binary(max_size=80),
            st.binary(max_size=8).map(lambda middle: body[:start] + middle + body[end:]),
            st.just(body[:start]),
        )
    )
    protocol = "generate" if case.model in STREAMING and draw(st.booleans()) else "http"
    headers = draw(_headers) if draw(st.booleans()) else ()
    return Case(case.model, protocol, headers=headers, body=changed)


@st.composite
def _torn(draw: Callable[..., Any]) -> Case:
    """A request whose client goes away in the middle of it."""
    case = draw(_structured())
    body = json.dumps(case.to_json()).encode()
    end = draw(st.integers(0, len(body)))
    return Case(case.model, "http", body=body[:end], is_whole=False)


_STRUCTURED, _RAW, _TORN = _structured(), _raw(), _torn()
cases = st.integers(0, 19).flatmap(lambda n: _STRUCTURED if n < 13 else _RAW if n < 19 else _TORN)
"""Two thirds have a form, the others only a part of one."""


def right_request(key: int, number: int) -> Case:
    """Return the request of a client that does nothing wrong, all of whose values depend on the key."""
    values = tuple(float((key * 31 + n) % 100_003) for n in range(number % 7))
    return Case(
        "batched" if number % 3 else "pipeline",
        "http",
        request_id=f"right-{key}",
        tensors=(
            make_tensor("KEY", "INT64", (1, 1), (key,)),
            make_tensor("VALUES", "FP32", (1, len(values)), values),
            make_tensor("TEXT", "BYTES", (1, 1), (f"text of {key}".encode(),)),
        ),
        is_binary=bool(number % 2),
    )
