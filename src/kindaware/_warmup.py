"""The forwards that an instance runs before it is ready, so that no client waits for a first one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from kindaware._batch import Request
from kindaware._device_pass import DevicePass
from kindaware._errors import ConfigError, RequestError, describe
from kindaware._placement import Placement
from kindaware._settings import Settings
from kindaware._spec import ModelSpec

MakeInputs = Callable[[int], Mapping[str, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Which batches to run.

    Attributes:
        spec: the model.
        sizes: batch sizes; a model that does not batch runs once when there is any.
        make_inputs: the hook `warmup_inputs`, or None for zeros.
        reason: why nothing is run, for the log; empty when something is.
    """

    spec: ModelSpec
    sizes: tuple[int, ...]
    make_inputs: MakeInputs | None
    reason: str

    @classmethod
    def plan(
        cls, spec: ModelSpec, settings: Settings, placement: Placement, make_inputs: MakeInputs | None
    ) -> WarmUp:
        """Choose the sizes: those of the setting, else 1, and on a GPU the preferred batch sizes too.

        With `compile`, 2 as well: torch compiles once for a size of 1 and once more, for all sizes, when
        another one comes; no client should wait for that.
        Source: torch, "Dynamic shapes" in the documentation of torch.compile (0/1 specialization).

        Raises:
            ConfigError: a size of the setting is above the model's max_batch_size.
        """
        sizes = _default_sizes(spec, settings, placement) if settings.warmup is None else settings.warmup
        largest = max(sizes, default=0)
        if spec.batches and largest > spec.max_batch_size:
            raise ConfigError.of(
                f"model {spec.name!r} setting 'warmup'",
                expected=f"batch sizes up to max_batch_size {spec.max_batch_size}",
                got=str(largest),
                remedy="correct warmup or max_batch_size",
            )
        if not sizes:
            return cls(spec, (), make_inputs, "off")
        dynamic = [tensor.name for tensor in spec.inputs if tensor.is_dynamic and not tensor.optional]
        if dynamic and make_inputs is None:
            reason = f"skipped (input {dynamic[0]} has a dimension of -1; define warmup_inputs(rows))"
            return cls(spec, (), None, reason)
        return cls(spec, sizes, make_inputs, "")

    def run(self, device_pass: DevicePass) -> str:
        """Run the batches; give a phrase for the log.

        A model that refuses zeros with a `RequestError` works as it should: then nothing is warmed up.

        Raises:
            ConfigError: a hook failed, or returned what the configuration doesn't declare.
        """
        if not self.sizes:
            return f"warm-up {self.reason}"
        started = time.monotonic()
        sizes: tuple[int | None, ...] = self.sizes if self.spec.batches else (None,)
        for rows in sizes:
            try:
                device_pass.begin_call()
                request = Request("warm-up", self._inputs(rows), rows)
                device_pass.run([device_pass.preprocess(request)])
            except Exception as error:
                if isinstance(error, RequestError) and self.make_inputs is None:
                    return f"warm-up skipped (zeros are refused: {error}; define warmup_inputs(rows))"
                raise ConfigError.of(
                    f"model {self.spec.name!r} warm-up with {rows or 1} row(s)",
                    expected="forward to answer "
                    + ("zeros" if self.make_inputs is None else "what warmup_inputs made"),
                    got=describe(error),
                    remedy="correct forward, define warmup_inputs(rows) with data that it takes, or set "
                    "parameter kindaware.warmup to 'off'",
                ) from error
        named = ", ".join(map(str, self.sizes)) if self.spec.batches else "none"
        return f"warm-up {time.monotonic() - started:.2f} s (batch sizes {named})"

    def _inputs(self, rows: int | None) -> Mapping[str, torch.Tensor]:
        if self.make_inputs is not None:
            return self.make_inputs(rows or 1)
        batch = () if rows is None else (rows,)
        return {
            tensor.name: torch.zeros((*batch, *tensor.shape), dtype=tensor.dtype.torch)
            for tensor in self.spec.inputs
            if not tensor.optional
        }


def _default_sizes(spec: ModelSpec, settings: Settings, placement: Placement) -> tuple[int, ...]:
    sizes = {1}
    if placement.uses_cuda:
        sizes.update(spec.preferred_batch_sizes)
    if settings.compile != "off" and spec.batches:
        sizes.add(min(2, spec.max_batch_size))
    return tuple(sorted(sizes))
