"""What `kindaware run` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

import numpy as np

from kindaware import KindAwareModel
from kindaware.cli._outputs import write_json, write_outputs
from kindaware.cli._stages import order_stages


def to_numpy(outputs: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Return outputs as arrays of numpy, which has no BF16: that becomes float32."""
    return {
        name: one if isinstance(one, np.ndarray) else one.float().numpy() for name, one in outputs.items()
    }


def describe_model(model: Any, args: Mapping[str, str], load_seconds: float) -> str:
    """Return a line about the instance that runs."""
    text = f"{args['model_name']} version {args['model_version']}"
    if isinstance(model, KindAwareModel):
        text += f" on {model.device}, precision {model.settings.precision}"
    else:
        text += f", kind {args['model_instance_kind']}, not a KindAwareModel"
    return f"{text}, loaded in {load_seconds:.2f} s"


def write_inputs(inputs: Mapping[str, Any], out: TextIO) -> str:
    """Return a line for each input, to be printed to `out`."""
    return write_outputs(to_numpy(inputs), out=out)


def write_json_line(outputs: Mapping[str, Any], seconds: Mapping[str, float]) -> str:
    """Return an answer as one line of JSON: outputs, and milliseconds by stage."""
    return write_json(outputs, milliseconds={name: round(one * 1e3, 4) for name, one in seconds.items()})


def write_stages(seconds: Mapping[str, float], num_requests: int) -> str:
    """Return a table of what one request took, in milliseconds of the host."""
    rows = [(name, per / num_requests * 1e3) for name, per in order_stages(seconds).items()]
    width = max(len(name) for name, _ in rows)
    head = "ms per request" if num_requests > 1 else "ms"
    lines = [f"  {'stage':{width}}  {head:>10}"]
    lines += [f"  {name:{width}}  {milliseconds:>{max(10, len(head))}.3f}" for name, milliseconds in rows]
    return "\n".join(lines)
