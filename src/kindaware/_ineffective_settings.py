"""Settings that can have no effect on an instance, for the line that it logs when it is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kindaware._config.model_spec import ModelSpec
from kindaware._config.response_cache import has_response_cache
from kindaware._config.settings import Settings
from kindaware._placement.placement import Placement


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides whether a setting can have an effect.

    Attributes:
        settings: the settings in effect.
        spec: spec of the model.
        config: the model configuration, as Triton passes it.
        placement: the placement of the instance.
        num_threads: torch's threads.
        num_cores: cores that the process may use.
        is_async: whether the hook that answers is asynchronous.
        has_modules: whether there are modules among the attributes of the user's object.
    """

    settings: Settings
    spec: ModelSpec
    config: Mapping[str, Any]
    placement: Placement
    num_threads: int
    num_cores: int
    is_async: bool
    has_modules: bool

    @property
    def on_cpu(self) -> bool:
        """Whether no device of the instance is a GPU."""
        return not self.placement.uses_cuda

    @property
    def is_dynamic(self) -> bool:
        """Whether the server puts several requests into one call."""
        return self.config.get("dynamic_batching") is not None or self.spec.sequences is not None

    def unpadded(self) -> list[str]:
        """Return the inputs to pad of which the server puts only equal shapes together."""
        ragged = {one.get("name") for one in self.config.get("input", ()) if one.get("allow_ragged_batch")}
        declared = {tensor.name for tensor in self.spec.inputs}
        return [name for name in self.settings.pad or () if name in declared - ragged]


_ON_CPU = "on the CPU"
_HOST_REASONS = ("KIND_CPU", "model_devices=cpu")

_RULES: tuple[tuple[str, str, Callable[[Facts], object]], ...] = (
    ("on_missing_gpu", "no GPU is asked for", lambda it: it.placement.reason in _HOST_REASONS),
    ("model_devices", "only for KIND_MODEL", lambda it: it.placement.kind != "MODEL"),
    ("num_threads", "more than the cores of this process", lambda it: it.num_threads > it.num_cores),
    ("wait_policy", "a single thread waits for none", lambda it: it.num_threads == 1),
    ("keep_memory", "on a GPU", lambda it: not it.on_cpu),
    ("primitive_cache", "on a GPU", lambda it: not it.on_cpu),
    ("move_modules", "no module on self", lambda it: not it.has_modules),
    ("memory_format", "no input with 4 dimensions", lambda it: not _has_images(it.spec)),
    ("compile", "no module on self", lambda it: not it.has_modules),
    ("cuda_graphs", _ON_CPU, lambda it: it.on_cpu),
    ("output_device", _ON_CPU, lambda it: it.on_cpu),
    ("pinned_limit_bytes", _ON_CPU, lambda it: it.on_cpu),
    ("allow_response_cache", "no response_cache", lambda it: not has_response_cache(it.config)),
    ("reload_on_fault", _ON_CPU, lambda it: it.on_cpu),
    ("isolate_errors", "no request shares a batch", lambda it: it.spec.decoupled or not it.spec.batches),
    ("pad", "allow_ragged_batch is not true", lambda it: it.unpadded()),
    ("max_streams", "no asynchronous stream", lambda it: not (it.spec.decoupled and it.is_async)),
    ("max_stream_bytes", "no stream", lambda it: not it.spec.decoupled),
    ("max_sequences", "no sequence_batching", lambda it: it.spec.sequences is None),
)
"""Name of a setting, why it has no effect, and when that is so."""


def describe_ineffective(facts: Facts) -> str:
    """Return a phrase that names the settings that were changed without effect; "" for none."""
    changed = facts.settings.changed()
    named = [f"{name} ({why})" for name, why, holds in _RULES if name in changed and holds(facts)]
    # Not a setting of this library's, but just as ineffective.
    spec = facts.spec
    if spec.max_batch_size > 1 and not spec.decoupled and not facts.is_dynamic:
        named.append(f"max_batch_size {spec.max_batch_size} (dynamic_batching is off: one request per call)")
    return f"; without effect: {', '.join(named)}" if named else ""


def _has_images(spec: ModelSpec) -> bool:
    return any(len(tensor.shape) + spec.batches == 4 for tensor in spec.inputs)
