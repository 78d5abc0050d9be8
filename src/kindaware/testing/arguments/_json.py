"""A model configuration as the JSON that Triton hands to `initialize`."""

from __future__ import annotations

import json
from typing import Any

_KEPT_AS_TEXT = frozenset(
    {
        ("sequence_batching", "state", "initial_state", "dims"),
        ("optimization", "cuda", "graph_spec", "input", "dim"),
        ("optimization", "cuda", "graph_spec", "graph_lower_bound", "input", "dim"),
        ("instance_group", "secondary_devices", "device_id"),
    }
)
"""64-bit numbers that the server forgets to turn back into numbers."""


def dump_config(config: Any) -> str:
    """Write a normalised configuration as the server does: compact, in the order of the declaration.

    The order of a map's entries is the server's hash order, which isn't mirrored.

    Source: core `model_config_utils.cc`, ModelConfigToJson (commit 05295b7).
    """
    return json.dumps(config_as_dict(config), separators=(",", ":"), ensure_ascii=False)


def config_as_dict(config: Any) -> dict[str, Any]:
    """Return the configuration as the dict that `json.loads` makes of the server's JSON."""
    return _message(config, ())


def _message(message: Any, path: tuple[str, ...]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for field in sorted(message.DESCRIPTOR.fields, key=_is_primitive_choice):
        here = (*path, field.name)
        value = getattr(message, field.name)
        if _is_map(field):
            shown[field.name] = _map(field, value, here)
        elif field.is_repeated:
            shown[field.name] = [_value(field, element, here) for element in value]
        elif not field.has_presence or message.HasField(field.name):
            shown[field.name] = _value(field, value, here)
    return shown


def _is_primitive_choice(field: Any) -> bool:
    """Return whether a field is a oneof's and not a message; the server's protobuf prints it last."""
    return field.containing_oneof is not None and field.type != field.TYPE_MESSAGE


def _map(field: Any, entries: Any, path: tuple[str, ...]) -> dict[str, Any]:
    value_field = field.message_type.fields_by_name["value"]
    return {_key(key): _value(value_field, entries[key], path) for key in entries}


def _value(field: Any, value: Any, path: tuple[str, ...]) -> Any:
    if field.type == field.TYPE_MESSAGE:
        return _message(value, path)
    if field.type == field.TYPE_ENUM:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    if field.type in (field.TYPE_INT64, field.TYPE_UINT64) and path in _KEPT_AS_TEXT:
        return str(value)
    if field.type == field.TYPE_FLOAT:
        return _shortest(value)
    return value


def _shortest(value: float) -> float:
    """Return the shortest decimal that is the same 32-bit number."""
    import numpy

    return float(str(numpy.float32(value)))


def _key(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _is_map(field: Any) -> bool:
    return field.type == field.TYPE_MESSAGE and bool(field.message_type.GetOptions().map_entry)
