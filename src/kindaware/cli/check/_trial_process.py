"""A model loaded and asked once; runs in a process of its own, see `_trial`."""

from __future__ import annotations

import itertools
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from kindaware import KindAwareModel
from kindaware._device_placement import DevicePlacement
from kindaware._errors import KindAwareError, describe
from kindaware._tensors.dtypes import find_dtype
from kindaware.cli._sizes import fill_dims
from kindaware.testing import ModelHarness, ModelLoadError, TritonContractError

MOST_RESPONSES = 3
"""Of a stream; it is cancelled then."""

_TEXT = b"hello"
"""What inputs of text get: many models have nothing to say to an empty one."""

_MOST_LOG_LINES = 20
_AT = re.compile(
    r'(?:File "(?P<file>[^"]+)", line (?P<line>\d+))|(?:^ {2}(?P<path>/[^(\n]+)\((?P<number>\d+)\))', re.M
)


def try_model(
    directory: str,
    *,
    kind: str | None,
    groups: Sequence[int],
    shapes: Mapping[str, Sequence[int]],
    parameters: Mapping[str, str],
    called: Sequence[str] = (),
) -> dict[str, Any]:
    """Load one instance of each group of a model, and send the first one a request of zeros and a word.

    Args:
        directory: the model's.
        kind: of the instances; None is the configuration's.
        groups: indices of the instance groups.
        shapes: of one row, of inputs whose dims have -1.
        parameters: over those of the configuration.
        called: directories of models that it may call, and which are loaded first.

    Returns:
        The fields of `Trial`, as far as it got.
    """
    warnings.simplefilter("ignore")
    folder = Path(directory)
    found: dict[str, Any] = {"instances": [], "log": []}
    for group in groups:
        harness = ModelHarness(
            folder,
            kind=kind,
            parameters=parameters,
            models=called,
            group_index=group,
            instances=1,
            num_gpus=torch.cuda.device_count() if kind is None else None,
            raise_errors=False,
        )
        try:
            harness.start()
            found["instances"].append(_describe_instance(harness, group))
            if "config" not in found:
                found["config"] = {**harness.config}
                found["request"] = _ask(harness, folder, shapes)
            harness.stop()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            found["error"] = describe_error(error, folder)
            break
        finally:
            lines = [
                one for one in harness.logs if one.level in ("WARNING", "ERROR") and not _is_note(one.text)
            ]
            found["log"] += [[one.level, one.text] for one in lines[:_MOST_LOG_LINES]]
    found["peak_bytes"] = read_peak_bytes()
    return found


def read_peak_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Return the most memory that this process has had at once.

    Not by `getrusage`, which counts what the process before `exec` had.
    """
    line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _is_note(text: str) -> bool:
    """Whether a line is the harness's own, about the kind that it was asked for."""
    return ", started as " in text and text.startswith("instance_group ")


def _describe_instance(harness: ModelHarness, group: int) -> dict[str, Any]:
    model, args = harness.instance, harness.args
    is_placed = isinstance(model, DevicePlacement)
    on_gpu = args["model_instance_kind"] == "GPU"
    device = str(model.device) if is_placed else ("chosen by model.py" if on_gpu else "cpu")
    return {
        "group": group,
        "name": args["model_instance_name"],
        "kind": f"KIND_{args['model_instance_kind']}",
        "device": device,
        "threads": torch.get_num_threads(),
        "is_kindaware": isinstance(model, KindAwareModel),
        "is_placed": is_placed,
    }


def _ask(harness: ModelHarness, folder: Path, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Send a request and describe it; what a sequence needs comes with it."""
    config = harness.config
    inputs = _own_inputs(harness) or _zeros(config, shapes)
    options: dict[str, Any] = {}
    if "sequence_batching" in config:
        options = {
            "correlation_id": 1,
            "flags": 1 if config["sequence_batching"].get("iterative_sequence") else 3,
        }
    started = time.perf_counter()
    if config.get("model_transaction_policy", {}).get("decoupled"):
        # Told beforehand, since a plain generator runs to its end before the first result is here.
        stream = harness.stream(inputs, cancelled=lambda number: number >= MOST_RESPONSES, **options)
        results = list(itertools.islice(stream, MOST_RESPONSES))
    else:
        results = [harness.infer(inputs, **options)]
    seconds = time.perf_counter() - started
    asked: dict[str, Any] = {
        "inputs": {name: _describe_tensor(value) for name, value in inputs.items()},
        "responses": len(results),
        "seconds": seconds,
        "outputs": {},
        "has_made_up_values": _is_made_up(config, inputs),
    }
    for result in results:
        if result.error is not None:
            text = result.error.message()
            file, line = _place_in(text, folder) or _place_in(harness.log_text(), folder) or ("", 0)
            code = result.error.code().name
            asked["error"] = {"text": _shorten(text), "code": code, "file": file, "line": line}
            break
        asked["outputs"] = {name: _describe_tensor(value) for name, value in result.outputs.items()}
    return asked


def _own_inputs(harness: ModelHarness) -> Mapping[str, Any]:
    """Return what the model's own `warmup_inputs` makes for one row; empty without that hook."""
    make = getattr(harness.instance, "warmup_inputs", None)
    if not (isinstance(harness.instance, KindAwareModel) and callable(make)):
        return {}
    with torch.inference_mode():
        return {name: value for name, value in make(1).items() if value is not None}


def _zeros(config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return zeros, or a word where text is wanted, for each input that a request must have."""
    row = [1] if int(config["max_batch_size"]) > 0 else []
    made: dict[str, Any] = {}
    for tensor in config["input"]:
        if tensor.get("optional"):
            continue
        dtype = find_dtype(tensor["data_type"], f"input {tensor['name']!r} data_type")
        dims = shapes.get(tensor["name"], fill_dims(map(int, tensor["dims"]), str(dtype)))
        size = [*row, *dims]
        if dtype.torch is None:
            made[tensor["name"]] = np.full(size, _TEXT, dtype=object)
        elif dtype.numpy is None:
            made[tensor["name"]] = torch.zeros(size, dtype=dtype.torch)
        else:
            made[tensor["name"]] = np.zeros(size, dtype=dtype.numpy)
    return made


def _is_made_up(config: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    """Whether the model may be right to refuse: texts are made up, and sizes were chosen."""
    sent = [one for one in config["input"] if one["name"] in inputs]
    return any(one["data_type"] == "TYPE_STRING" or -1 in map(int, one["dims"]) for one in sent)


def _describe_tensor(value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        return [str(value.dtype).removeprefix("torch."), list(value.shape)]
    array = np.asarray(value)
    return ["BYTES" if array.dtype.kind in "OSU" else str(array.dtype), list(array.shape)]


def describe_error(error: BaseException, folder: Path) -> dict[str, Any]:
    """Return what was raised: its kind, its text, and the line of the model's code that it comes from."""
    cause = error.__cause__ if isinstance(error, ModelLoadError) and error.__cause__ is not None else error
    text = str(cause)
    file, line = _place_of(cause.__traceback__, folder) or _place_in(text, folder) or ("", 0)
    if isinstance(cause, SyntaxError) and cause.filename:
        file, line = cause.filename, cause.lineno or 0
    kind = "load"
    if isinstance(error, TritonContractError):
        kind = "hang" if "wait for ever" in text else "contract"
        if waits := re.search(r"it (?:waits|is) at (?:\S*/)?([\w.]+):(\d+)", text):
            file, line = _find(waits[1], folder), int(waits[2])
    elif isinstance(cause, SystemExit):
        kind = "exit"
    is_own = isinstance(cause, (KindAwareError, TritonContractError)) or (
        isinstance(error, KindAwareError) and not isinstance(error, ModelLoadError)
    )
    return {
        "kind": kind,
        # The library's own errors may begin with the user's traceback; the last paragraph says it all.
        "text": _shorten(text.rsplit("\n\n", maxsplit=1)[-1] if is_own else describe(cause)),
        "file": file,
        "line": line,
    }


def _shorten(text: str) -> str:
    return text.split("\n\nAt:\n", maxsplit=1)[0].strip()[:1000]


def _place_of(trace: TracebackType | None, folder: Path) -> tuple[str, int] | None:
    place = None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if _is_in(file, folder):
            place = file, trace.tb_lineno
        trace = trace.tb_next
    return place


def _place_in(text: str, folder: Path) -> tuple[str, int] | None:
    """Return the innermost line of the model's in a traceback, whose order depends on who wrote it."""
    python = [(one["file"], int(one["line"])) for one in _AT.finditer(text) if one["file"]]
    pybind = [(one["path"], int(one["number"])) for one in _AT.finditer(text) if one["path"]]
    return next((one for one in [*reversed(python), *pybind] if _is_in(one[0], folder)), None)


def _is_in(file: str, folder: Path) -> bool:
    return Path(file).is_relative_to(folder)


def _find(name: str, folder: Path) -> str:
    return next((str(file) for file in sorted(folder.rglob(name), reverse=True)), "")
