"""Requests to paste: of the command, of curl and of Python, for a model that is served."""

from __future__ import annotations

import json
import keyword
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kindaware.cli._sizes import fill_dims
from kindaware.cli._token import TOKEN_VARIABLE

_NUM_JSON = 64
"""More values than that are not written out."""
_NO_JSON = ("FP16", "BF16")
_DTYPES = {"BF16": "float32", "FP16": "float16", "FP32": "float32", "FP64": "float64"}
_TEXT = "hello"
_CONTENT_TYPE = "-H 'Content-Type: application/json'"
_SEQUENCE = {"sequence_id": 1, "sequence_start": True, "sequence_end": True}
_OWN_NAMES = ("self", "inputs", "outputs", "request_id", "parameters", "timeout_seconds", *_SEQUENCE)


@dataclass(frozen=True)
class Examples:
    """Requests that work as they are.

    Attributes:
        infer: `kindaware infer ...`.
        curl: a command line; empty where HTTP takes none in JSON: BF16 and FP16, and sequences that
            stream.
        python: lines of Python.
    """

    infer: str
    curl: str
    python: str


@dataclass(frozen=True)
class _Input:
    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        size = 1
        for one in self.shape:
            size *= one
        return size


def write_examples(
    config: Mapping[str, Any], http_url: str, grpc_url: str, *, needs_token: bool = False
) -> Examples:
    """Return requests of ones, and of a word where text is wanted.

    Args:
        config: of the model, as the server has completed it.
        http_url: host and port.
        grpc_url: host and port.
        needs_token: whether they take the server's token from the environment, as `kindaware infer` does.
    """
    inputs = _read_inputs(config)
    is_stream = bool(config.get("model_transaction_policy", {}).get("decoupled"))
    is_sequence = "sequence_batching" in config
    curl = _write_curl(config, inputs, http_url, is_stream=is_stream, is_sequence=is_sequence)
    python = _write_python(config["name"], inputs, grpc_url, is_stream=is_stream, is_sequence=is_sequence)
    if needs_token:
        curl = curl.replace(_CONTENT_TYPE, f'{_CONTENT_TYPE} -H "Authorization: Bearer ${TOKEN_VARIABLE}"')
        named = f'"{config["name"]}"'
        python = "import os\n" + python.replace(
            f"{named})", f'{named}, token=os.environ["{TOKEN_VARIABLE}"])', 1
        )
    return Examples(_write_infer(config["name"], grpc_url, is_sequence=is_sequence), curl, python)


def _read_inputs(config: Mapping[str, Any]) -> list[_Input]:
    """Return the inputs that a request has to have, with one row where the model batches."""
    row = (1,) if int(config.get("max_batch_size", 0)) > 0 else ()
    entries = config.get("input", ())
    needed = [one for one in entries if not one.get("optional")] or entries[:1]
    return [
        _Input(one["name"], _datatype(one), (*row, *fill_dims(map(int, one["dims"]), _datatype(one))))
        for one in needed
    ]


def _datatype(tensor: Mapping[str, Any]) -> str:
    return str(tensor["data_type"]).removeprefix("TYPE_").replace("STRING", "BYTES")


def _write_infer(model: str, url: str, *, is_sequence: bool) -> str:
    host, _, port = url.rpartition(":")
    is_default = port == "8001" and host in ("127.0.0.1", "localhost")
    words = ["kindaware", "infer", shlex.quote(model), "--random"]
    words += ["--sequence-id", "1", "--sequence-start", "--sequence-end"] if is_sequence else []
    return " ".join(words + ([] if is_default else ["--url", url]))


def _write_curl(
    config: Mapping[str, Any], inputs: Sequence[_Input], url: str, *, is_stream: bool, is_sequence: bool
) -> str:
    datatypes = [one.datatype for one in inputs] + [_datatype(one) for one in config.get("output", ())]
    if any(one in _NO_JSON for one in datatypes) or (is_stream and is_sequence):
        return ""
    address = f"http://{url}/v2/models/{config['name']}/{'generate_stream' if is_stream else 'infer'}"
    post = f"curl -{'N' if is_stream else ''}s {shlex.quote(address)} {_CONTENT_TYPE} -d"
    if is_stream:
        is_flat = all(one.size == max((1, *one.shape)) and one.size <= _NUM_JSON for one in inputs)
        return f"{post} {shlex.quote(json.dumps(_flat_body(inputs)))}" if is_flat else ""
    head = json.dumps({"parameters": _SEQUENCE})[1:-1] + ", " if is_sequence else ""
    if sum(one.size for one in inputs) <= _NUM_JSON:
        body = ", ".join(_entry(one, json.dumps([_value(one)] * one.size)) for one in inputs)
        data = f'{{{head}"inputs": [{body}]}}'
        return f"{post} {shlex.quote(data)}"
    # Too much to be written out: Python repeats it.
    body = ", ".join(_entry(one, f"[{_literal(one)}] * {one.size}") for one in inputs)
    head = head.replace("true", "True")
    code = f'import json; print(json.dumps({{{head}"inputs": [{body}]}}))'
    return f"python3 -c {shlex.quote(code)} | {post} @-"


def _entry(one: _Input, data: str) -> str:
    head = json.dumps({"name": one.name, "shape": one.shape, "datatype": one.datatype})
    return f'{head[:-1]}, "data": {data}}}'


def _literal(one: _Input) -> str:
    value = _value(one)
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _flat_body(inputs: Sequence[_Input]) -> dict[str, Any]:
    """Return what the endpoint for streams takes: a value, or a list of them, by name."""
    body = {}
    for one in inputs:
        values = [_value(one)] * one.size
        body[one.name] = values[0] if one.size == 1 else values
    return body


def _value(one: _Input) -> Any:
    return _TEXT if one.datatype == "BYTES" else True if one.datatype == "BOOL" else 1


def _write_python(
    model: str, inputs: Sequence[_Input], url: str, *, is_stream: bool, is_sequence: bool
) -> str:
    are_keywords = all(
        one.name.isidentifier() and not keyword.iskeyword(one.name) and one.name not in _OWN_NAMES
        for one in inputs
    )
    if are_keywords:
        given = [f"{one.name}={_array(one)}" for one in inputs]
    else:
        given = ["{" + ", ".join(f"{one.name!r}: {_array(one)}" for one in inputs) + "}"]
    given += [f"{name}={value}" for name, value in _SEQUENCE.items()] if is_sequence else []
    call = f"model.{'stream' if is_stream else 'infer'}({', '.join(given)})"
    lines = ["import numpy as np"] if "np." in call else []
    lines += ["from kindaware.client import ModelClient", ""]
    lines.append(f'with ModelClient("{url}", "{model}") as model:')
    lines += [f"    for item in {call}:", "        print(item)"] if is_stream else [f"    print({call})"]
    return "\n".join(lines)


def _array(one: _Input) -> str:
    if one.datatype == "BYTES" and one.size == 1:
        return f"{'[' * len(one.shape)}{json.dumps(_TEXT)}{']' * len(one.shape)}"
    if one.datatype == "BYTES":
        return f'np.full({one.shape}, "{_TEXT}", dtype=object)'
    return f'np.ones({one.shape}, "{_DTYPES.get(one.datatype, one.datatype.lower())}")'
