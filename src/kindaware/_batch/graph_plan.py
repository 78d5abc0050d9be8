"""The plan of CUDA graphs: which batch sizes get one, and which models can't have any."""

from __future__ import annotations

from kindaware._batch.row_limit import largest_batch
from kindaware._config.model_spec import ModelSpec
from kindaware._config.settings import Settings
from kindaware._errors import ConfigError
from kindaware._hooks.hooks import Hooks
from kindaware._placement.placement import Placement

_OWN_GRAPHS = ("reduce-overhead", "max-autotune")
"""Modes of torch.compile that capture CUDA graphs themselves."""


def graph_sizes(
    spec: ModelSpec, settings: Settings, placement: Placement, *, has_step: bool = False
) -> tuple[int, ...]:
    """Return the batch sizes that get a graph: those of the setting `cuda_graphs` on a GPU, none on the CPU.

    With `step` they are numbers of rows of its graphed methods, about which the configuration says nothing.

    Raises:
        ConfigError: the model can't have graphs of these sizes. Raised on the CPU too, so that a model that
            loads there also loads on a GPU.
    """
    if not settings.cuda_graphs:
        return ()
    in_batches = None if has_step else _obstacle_in_batches(spec, settings)
    if obstacle := in_batches or _obstacle_in_instance(settings, placement):
        expected, got = obstacle
        raise ConfigError.of(
            f"model {spec.name!r} setting 'cuda_graphs'",
            expected=expected,
            got=got,
            remedy="correct it, or set cuda_graphs to 'off'",
        )
    return settings.cuda_graphs if placement.uses_cuda else ()


def _obstacle_in_batches(spec: ModelSpec, settings: Settings) -> tuple[str, str] | None:
    """Return what graphs of `forward` need and what there is instead; None if nothing is in their way."""
    if spec.decoupled:
        return "a model that answers with forward, or with step", "a decoupled model with stream"
    if not spec.batches:
        return "a model with max_batch_size above 0", f"max_batch_size {spec.max_batch_size}"
    most, of = largest_batch(spec, settings)
    if (largest := settings.cuda_graphs[-1]) > most:
        return f"batch sizes up to {of} {most}", str(largest)
    if texts := _texts(spec):
        return "tensors that lie on the device", f"{texts[0]!r} of type BYTES"
    return None


def _obstacle_in_instance(settings: Settings, placement: Placement) -> tuple[str, str] | None:
    """Return what any graphs need and what there is instead; None if nothing is in their way."""
    if settings.compile in _OWN_GRAPHS:
        return "compile 'off' or 'default'", f"{settings.compile!r}, which makes graphs of its own"
    if len(placement.devices) > 1:
        return "an instance with one device", f"{len(placement.devices)} devices"
    return None


def _texts(spec: ModelSpec) -> list[str]:
    """Return the names of the inputs and outputs that no graph can read or write."""
    return [one.name for one in (*spec.inputs, *spec.outputs) if one.dtype.torch is None]


def refuse_extras(spec: ModelSpec, settings: Settings, hooks: Hooks) -> None:
    """Refuse CUDA graphs of a `forward` that gets more than its inputs, or runs on another thread.

    Raises:
        ConfigError: `forward` has a parameter that is not an input, or is asynchronous. Raised on the CPU
            too.
    """
    if settings.cuda_graphs and hooks.is_async:
        raise ConfigError.of(
            f"model {spec.name!r} setting 'cuda_graphs'",
            expected="a forward with def, since a graph repeats none of its Python",
            got="async def",
            remedy="define it with def, or set cuda_graphs to 'off'",
        )
    if settings.cuda_graphs and hooks.step is None and hooks.call.extras:
        raise ConfigError.of(
            f"model {spec.name!r} setting 'cuda_graphs'",
            expected="a forward whose parameters are inputs, since a graph repeats none of its Python",
            got=f"the parameter {hooks.call.extras[0]!r}",
            remedy="read it in preprocess or postprocess, or set cuda_graphs to 'off'",
        )
