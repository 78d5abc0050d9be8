"""The plan of an instance: everything about its batches that is fixed once its hooks are bound."""

from __future__ import annotations

from dataclasses import dataclass
from logging import Logger

from kindaware._batch.graph_plan import refuse_extras
from kindaware._batch.padding import Padding
from kindaware._batch.results import Reporter
from kindaware._config.model_spec import ModelSpec
from kindaware._config.settings import Settings
from kindaware._device.modules import Precision, converts_inputs
from kindaware._errors import ConfigError
from kindaware._hooks.hooks import Hooks


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Plan:
    """How the requests of an instance are answered.

    Attributes:
        spec: the model's tensors, as config.pbtxt declares them.
        settings: the settings in effect.
        hooks: the user's hooks.
        logger: logger of the instance.
        padding: how requests of different sizes are padded to share a batch; None if they aren't.
        precision: the precision in which `forward` computes.
    """

    spec: ModelSpec
    settings: Settings
    hooks: Hooks
    logger: Logger
    padding: Padding | None
    precision: Precision

    @classmethod
    def of(cls, spec: ModelSpec, settings: Settings, hooks: Hooks, logger: Logger) -> Plan:
        """Return the plan, after checking that model, settings and hooks are compatible.

        Raises:
            ConfigError: the model doesn't support the setting `pad`, `cuda_graphs`, `overlap_calls` or
                `items_per_response`, or has a hook `row_cost`, and nothing is padded.
        """
        refuse_extras(spec, settings, hooks)
        _refuse_overlap(spec, settings)
        _refuse_joined_items(spec, settings)
        padding = Padding.plan(spec, settings, hooks)
        if hooks.row_cost is not None and hooks.collate is None and padding is None:
            raise ConfigError.of(
                f"model {spec.name!r} row_cost",
                expected="pad or collate, which make the rows of a batch equally large",
                got="neither",
                remedy="set pad, or remove row_cost",
            )
        return cls(spec, settings, hooks, logger, padding, Precision.of(settings.precision))

    @property
    def reporter(self) -> Reporter:
        """What reports the errors of hooks to clients and to the log."""
        return Reporter(self.spec.name, self.settings.error_detail, self.logger)

    @property
    def hook(self) -> str:
        """Name of the hook that gets a request's inputs: `forward`, `stream` or `begin`."""
        return self.spec.hook if self.hooks.step is None else "begin"

    @property
    def answering_hook(self) -> str:
        """Name of the hook that computes outputs: `forward`, `stream` or `step`."""
        return self.spec.hook if self.hooks.step is None else "step"

    @property
    def converts_inputs(self) -> bool:
        """Whether inputs are converted to another dtype or memory format on the device."""
        return converts_inputs(self.settings, self.precision)

    @property
    def divides(self) -> bool:
        """Whether requests that could share a padded batch are divided by the size of their rows."""
        pads = self.padding is not None and not self.padding.is_by_collate
        # Of what `collate` makes of the rows nothing is known but what the hook says.
        is_said = self.hooks.collate is not None and self.hooks.row_cost is not None
        return (pads or is_said) and self.spec.batches and self.settings.max_padding != 1

    @property
    def reads_request_info(self) -> bool:
        """Whether a `RequestInfo` is read from each request."""
        return bool(self.hooks.with_requests) or self.spec.sequences is not None


def _refuse_overlap(spec: ModelSpec, settings: Settings) -> None:
    """Refuse calls that overlap where one needs what the last has left.

    On the CPU too, so that a model that loads there also loads on a GPU.
    """
    if settings.overlap_calls and spec.sequences is not None:
        raise ConfigError.of(
            f"model {spec.name!r} setting 'overlap_calls'",
            expected="requests that belong to no sequence, of which each needs the state of the last",
            got="sequence_batching",
            remedy="set overlap_calls to 'false', or remove sequence_batching",
        )


def _refuse_joined_items(spec: ModelSpec, settings: Settings) -> None:
    """Refuse items that share a response if a client could not tell them apart."""
    if settings.items_per_response == 1 or spec.batches or not spec.decoupled:
        return
    for output in spec.outputs:
        if output.shape[0] < 0:
            raise ConfigError.of(
                f"model {spec.name!r} setting 'items_per_response'",
                expected="a first dimension of fixed size, by which a client tells items apart",
                got=f"{output.name!r} {list(output.shape)}",
                remedy="declare that size, set max_batch_size above 0, or set items_per_response to 1",
            )
