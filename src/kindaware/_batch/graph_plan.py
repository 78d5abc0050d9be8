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
    sizes = settings.cuda_graphs
    if not sizes:
        return ()
    most, of = largest_batch(spec, settings)
    # The first obstacle is the one that is reported.
    expected = got = ""
    if spec.decoupled and not has_step:
        expected, got = "a model that answers with forward, or with step", "a decoupled model with stream"
    elif not (spec.batches or has_step):
        expected, got = "a model with max_batch_size above 0", f"max_batch_size {spec.max_batch_size}"
    elif sizes[-1] > most and not has_step:
        expected, got = f"batch sizes up to {of} {most}", str(sizes[-1])
    elif settings.compile in _OWN_GRAPHS:
        expected, got = "compile 'off' or 'default'", f"{settings.compile!r}, which makes graphs of its own"
    elif len(placement.devices) > 1:
        expected, got = "an instance with one device", f"{len(placement.devices)} devices"
    elif not has_step and (texts := _texts(spec)):
        expected, got = "tensors that lie on the device", f"{texts[0]!r} of type BYTES"
    if expected:
        raise ConfigError.of(
            f"model {spec.name!r} setting 'cuda_graphs'",
            expected=expected,
            got=got,
            remedy="correct it, or set cuda_graphs to 'off'",
        )
    return sizes if placement.uses_cuda else ()


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
