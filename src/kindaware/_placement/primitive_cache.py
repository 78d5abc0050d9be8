"""The setting `primitive_cache`: how many of oneDNN's primitives a process on the CPU keeps.

oneDNN compiles code for each operation and each size of its inputs, and keeps the last 1024. A model whose
inputs are of a new size in each request gains nothing from them, and its memory grows.
Source: oneDNN's documentation, Primitive Cache; it reads the variable when it makes its first primitive.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from kindaware._config.model_spec import ModelSpec

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
MAX_FOR_DYNAMIC_SIZES = 128
"""For `auto`; measured, see docs/reference/settings.md."""


def limit_primitives(setting: int | None, spec: ModelSpec, environment: MutableMapping[str, str]) -> None:
    """Set the capacity of oneDNN's cache, unless the operator has.

    Args:
        setting: the capacity; None for `auto`, which sets one for models with inputs of any size.
        spec: spec of the model.
        environment: of the process, before the first primitive.
    """
    if setting is None and any(tensor.is_dynamic for tensor in spec.inputs):
        setting = MAX_FOR_DYNAMIC_SIZES
    if setting is not None:
        environment.setdefault(CAPACITY, str(setting))
