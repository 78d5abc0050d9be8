"""config.pbtxt, written from what a model declares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kindaware._config.model_spec import TensorSpec

WIDTH = 100
"""Characters of a line beyond which a message or list is written over several lines."""

_ENUMS = frozenset({"data_type", "kind", "format", "priority", "timeout_action"})
"""Fields whose values are names and not text; no field of a configuration has both."""

_NUMBERED = "priority_queue_policy"
"""The one map whose keys are numbers; JSON has them as text."""

_MAPS = frozenset(
    {
        "cc_model_filenames",
        "input",
        "input_map",
        "inputs",
        "metric_tags",
        "output_map",
        "parameters",
        _NUMBERED,
    }
)
"""Fields that are maps wherever their value is a mapping."""

_INDENT = "  "

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def write_config(
    *,
    name: str = "",
    backend: str = "python",
    max_batch_size: int = 0,
    inputs: Iterable[TensorSpec] = (),
    outputs: Iterable[TensorSpec] = (),
    decoupled: bool = False,
    instance_groups: Iterable[Mapping[str, Any]] = (),
    dynamic_batching: bool | Mapping[str, Any] | None = None,
    parameters: Mapping[str, str] | None = None,
    **fields: Any,
) -> str:
    """Return the text of a config.pbtxt.

        write_config(
            name="doubler",
            max_batch_size=8,
            inputs=[TensorSpec("X", "FP32", [4])],
            outputs=[TensorSpec("Y", "FP32", [4])],
            instance_groups=[{"kind": "KIND_CPU", "count": 2}],
            parameters={"kindaware.precision": "bf16-true"},
        )

    Args:
        name: name of the model; empty leaves it to the directory's.
        backend: name of Triton's backend.
        max_batch_size: maximum number of rows per batch; 0 for a model that doesn't batch.
        inputs: shapes are those of one row if the model batches.
        outputs: the same.
        decoupled: whether a request may get any number of responses.
        instance_groups: the fields of each group, such as `{"kind": "KIND_GPU", "gpus": [0]}`; without one
            the server chooses.
        dynamic_batching: the fields of the dynamic batcher; True for its defaults, False for none. None is
            the choice of auto-complete: on if `max_batch_size` is above 1 and the model not decoupled.
        parameters: the parameters by name.
        fields: further fields of the configuration, such as `sequence_batching` or `model_warmup`, with the
            values that its JSON has.
    """
    if dynamic_batching is None:
        dynamic_batching = max_batch_size > 1 and not decoupled and "sequence_batching" not in fields
    if isinstance(dynamic_batching, bool):
        dynamic_batching = {} if dynamic_batching else None
    declared = {
        "name": name or None,
        "backend": backend or None,
        "max_batch_size": max_batch_size,
        "input": [{**one.to_config(), **({"optional": True} if one.optional else {})} for one in inputs],
        "output": [one.to_config() for one in outputs],
        "instance_group": list(instance_groups),
        "model_transaction_policy": {"decoupled": True} if decoupled else None,
        "dynamic_batching": dynamic_batching,
        "parameters": parameters or {},
        **fields,
    }
    return write_fields({key: value for key, value in declared.items() if value is not None and value != []})


def write_fields(config: Mapping[str, Any]) -> str:
    """Return fields of a configuration as text, one after the other.

    Args:
        config: the fields in the order of the text, with the values that the JSON of a configuration has. A
            parameter's value may be plain text, without the `string_value` around it.
    """
    if "parameters" in config:
        wrapped = {
            key: {"string_value": one} if isinstance(one, str) else one
            for key, one in config["parameters"].items()
        }
        config = {**config, "parameters": wrapped}
    lines = (line for key, value in _pairs(config) for line in _fit(_prefix(key, value), key, value))
    return "".join(f"{line}\n" for line in lines)


def _fit(prefix: str, key: str, value: Any, suffix: str = "") -> list[str]:
    """Return a value in one line if it fits, else over several; several messages have a line each."""
    short = f"{prefix}{_render(key, value)}{suffix}"
    is_long = len(short) > WIDTH or (_has_messages(value) and len(value) > 1)
    return [short] if not is_long else _spread(prefix, key, value, suffix)


def _spread(prefix: str, key: str, value: Any, suffix: str) -> list[str]:
    """Return a message over several lines, or a list of them; anything else in one."""
    if isinstance(value, Mapping):
        inner = [line for name, one in _pairs(value) for line in _fit(_prefix(name, one), name, one)]
        return [f"{prefix}{{", *(_INDENT + line for line in inner), f"}}{suffix}"]
    if _has_messages(value):
        last = len(value) - 1
        inner = [line for n, one in enumerate(value) for line in _fit("", key, one, "," if n < last else "")]
        return [f"{prefix}[", *(_INDENT + line for line in inner), f"]{suffix}"]
    return [f"{prefix}{_render(key, value)}{suffix}"]


def _render(key: str, value: Any) -> str:
    """Return the value of a field in one line."""
    if isinstance(value, Mapping):
        inside = " ".join(_prefix(name, one) + _render(name, one) for name, one in _pairs(value))
        return f"{{ {inside} }}" if inside else "{ }"
    if _is_list(value):
        return f"[ {', '.join(_render(key, one) for one in value)} ]" if len(value) else "[ ]"
    if isinstance(value, (bool, int, float)):
        return str(value).lower()
    return str(value) if key in _ENUMS else _quote(str(value))


def _prefix(key: str, value: Any) -> str:
    """Return a field's name, with the colon that a message does without."""
    return f"{key} " if isinstance(value, Mapping) or _has_messages(value) else f"{key}: "


def _pairs(message: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a message; a map is a field that is repeated, with a key and a value each."""
    for key, value in message.items():
        if key in _MAPS and isinstance(value, Mapping):
            for name, one in value.items():
                yield key, {"key": int(name) if key == _NUMBERED else name, "value": one}
        else:
            yield key, value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _has_messages(value: Any) -> bool:
    return _is_list(value) and any(isinstance(one, Mapping) for one in value)


def _quote(text: str) -> str:
    """Return text in quotes; protobuf takes UTF-8 as it is, but no control characters."""
    escaped = "".join(_ESCAPES.get(one, one if one.isprintable() else _octal(one)) for one in text)
    return f'"{escaped}"'


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in character.encode())
