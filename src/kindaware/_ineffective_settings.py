"""Settings that can have no effect on an instance, for the line that it logs when it is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kindaware._config.model_spec import ModelSpec
from kindaware._config.response_cache import has_response_cache
from kindaware._config.settings import FROZEN, Settings
from kindaware._placement.placement import Placement
from kindaware._placement.primitive_cache import CAPACITY


@dataclass(frozen=True, slots=True, eq=False, repr=False)
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
        hooks: names of the hooks that the class has.
        unpads: whether outputs are cut back to the sizes of inputs that are padded.
        is_served: whether this is a process of a server, and not a test.
        environment: of the process.
    """

    settings: Settings
    spec: ModelSpec
    config: Mapping[str, Any]
    placement: Placement
    num_threads: int
    num_cores: int
    is_async: bool
    has_modules: bool
    hooks: frozenset[str]
    unpads: bool
    is_served: bool
    environment: Mapping[str, str]

    @property
    def on_cpu(self) -> bool:
        """Whether no device of the instance is a GPU."""
        return not self.placement.uses_cuda

    @property
    def is_dynamic(self) -> bool:
        """Whether the server puts several requests into one call."""
        return self.config.get("dynamic_batching") is not None or self.spec.sequences is not None

    @property
    def shares_batches(self) -> bool:
        """Whether a batch may have more than one request."""
        return self.is_dynamic and self.spec.max_batch_size > 1 and not self.spec.decoupled

    @property
    def searches(self) -> bool:
        """Whether the requests, or the shape, that a hook raises for are looked for with further forwards."""
        has_probes = not self.spec.decoupled and any(one.is_dynamic for one in self.spec.inputs)
        return has_probes or (self.settings.isolate_errors and (self.shares_batches or self.has_step))

    @property
    def pads(self) -> bool:
        """Whether rows of a batch are padded, by the setting `pad` or as the hook `row_cost` says."""
        return bool(self.settings.pad) or {"collate", "row_cost"} <= self.hooks

    @property
    def fits_forward(self) -> bool:
        """Whether one forward may take all the rows that a call can have."""
        limit = self.settings.max_rows_per_forward
        is_above = isinstance(limit, int) and limit >= self.spec.max_batch_size
        return is_above or not self.spec.batches or self.spec.decoupled

    def unpadded(self) -> list[str]:
        """Return the inputs to pad of which the server puts only equal shapes together."""
        apart = self._apart()
        return [name for name in self.settings.pad or () if name in apart]

    @property
    def collates_equal(self) -> bool:
        """Whether `collate` gets only equal sizes, though the inputs' sizes vary."""
        if "collate" not in self.hooks or "preprocess" in self.hooks or not self.shares_batches:
            return False
        varying = {tensor.name for tensor in self.spec.inputs if tensor.is_dynamic}
        return bool(varying) and varying <= self._apart()

    def _apart(self) -> set[str]:
        ragged = {one.get("name") for one in self.config.get("input", ()) if one.get("allow_ragged_batch")}
        return {tensor.name for tensor in self.spec.inputs if tensor.name not in ragged}

    @property
    def asks_anyway(self) -> bool:
        """Whether streams are asked for their cancellation without the setting, too."""
        return self.spec.decoupled and self.settings.cancellation == "on"

    @property
    def runs_streams_at_once(self) -> bool:
        """Whether several streams run at once."""
        return self.has_step or (self.spec.decoupled and self.is_async)

    @property
    def has_step(self) -> bool:
        """Whether the model answers with `step`."""
        return self.spec.decoupled and "step" in self.hooks

    @property
    def has_state(self) -> bool:
        """Whether `forward` may keep a state, so that it isn't run to measure it."""
        return self.spec.decoupled or self.spec.sequences is not None

    @property
    def has_own_primitives(self) -> bool:
        """Whether the operator has set the number of primitives to keep, to something else."""
        setting = self.environment.get(CAPACITY)
        return setting is not None and setting != str(self.settings.primitive_cache)


_ON_CPU = "on the CPU"
_HOST_REASONS = ("KIND_CPU", "model_devices=cpu")

_RULES: tuple[tuple[str, str, Callable[[Facts], object]], ...] = (
    ("on_missing_gpu", "no GPU is asked for", lambda it: it.placement.reason in _HOST_REASONS),
    ("model_devices", "only for KIND_MODEL", lambda it: it.placement.kind != "MODEL"),
    ("num_threads", "more than the cores of this process", lambda it: it.num_threads > it.num_cores),
    ("num_threads", "same as auto on a GPU", lambda it: it.settings.num_threads == "share" and not it.on_cpu),
    ("wait_policy", "a single thread waits for none", lambda it: it.num_threads == 1),
    ("keep_memory", "on a GPU", lambda it: not it.on_cpu),
    ("primitive_cache", "on a GPU", lambda it: not it.on_cpu),
    ("primitive_cache", f"{CAPACITY} is set", lambda it: it.on_cpu and it.has_own_primitives),
    ("move_modules", "no module on self", lambda it: not it.has_modules),
    ("memory_format", "no input with 4 dimensions", lambda it: not _has_images(it.spec)),
    ("compile", "no module on self", lambda it: not it.has_modules),
    ("compile_cache", "compile is off", lambda it: it.settings.compile == "off"),
    ("compile_cache", "on a GPU", lambda it: not it.on_cpu),
    ("compile_cache", "weights are part of frozen code", lambda it: it.settings.compile == FROZEN),
    ("optimize", "on a GPU", lambda it: not it.on_cpu),
    ("optimize", "no module on self", lambda it: not it.has_modules),
    ("optimize", "with streams or sequences", lambda it: it.has_state),
    ("optimize", "only on a server", lambda it: it.on_cpu and not it.is_served),
    ("tolerance", "only for optimize", lambda it: it.settings.optimize == "off"),
    ("cuda_graphs", _ON_CPU, lambda it: it.on_cpu),
    ("output_device", _ON_CPU, lambda it: it.on_cpu),
    ("pinned_limit_bytes", _ON_CPU, lambda it: it.on_cpu),
    ("overlap_calls", _ON_CPU, lambda it: it.on_cpu),
    ("overlap_calls", "streams answer by themselves", lambda it: it.spec.decoupled and not it.on_cpu),
    ("allow_response_cache", "no response_cache", lambda it: not has_response_cache(it.config)),
    ("reload_on_fault", _ON_CPU, lambda it: it.on_cpu),
    ("cancellation", "same as auto for a decoupled model", lambda it: it.asks_anyway),
    ("isolate_errors", "no request shares a batch", lambda it: not (it.shares_batches or it.has_step)),
    ("max_isolation", "no forward is run again", lambda it: not it.searches),
    ("pad", "allow_ragged_batch is not true", lambda it: it.unpadded()),
    ("unpad", "no output follows a padded input", lambda it: not it.unpads),
    ("max_padding", "nothing is padded", lambda it: not it.pads),
    ("max_rows_per_forward", "no forward gets more rows", lambda it: it.fits_forward),
    (
        "max_streams",
        "no asynchronous stream",
        lambda it: not it.runs_streams_at_once,
    ),
    ("max_begins_per_step", "no step", lambda it: not it.has_step),
    ("items_per_response", "no stream", lambda it: not it.spec.decoupled),
    (
        "items_per_response",
        "outputs stay on the GPU",
        lambda it: it.spec.decoupled and it.settings.keeps_outputs and not it.on_cpu,
    ),
    ("drain_seconds", "no step", lambda it: not it.has_step),
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
    if facts.collates_equal:
        named.append("collate (allow_ragged_batch is not true: requests of one size only)")
    return f"; without effect: {', '.join(named)}" if named else ""


def _has_images(spec: ModelSpec) -> bool:
    return any(len(tensor.shape) + spec.batches == 4 for tensor in spec.inputs)
