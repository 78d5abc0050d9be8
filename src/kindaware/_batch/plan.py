"""What is fixed about an instance once its model is loaded and its hooks are bound."""

from __future__ import annotations

from dataclasses import dataclass
from logging import Logger

from kindaware._batch.graph_plan import refuse_extras
from kindaware._batch.padding import Padding
from kindaware._config.model_spec import ModelSpec
from kindaware._config.settings import Settings
from kindaware._device.modules import Precision, converts_inputs
from kindaware._hooks.binding import Hooks


@dataclass(frozen=True, slots=True)
class Plan:
    """How the requests of an instance are answered.

    Attributes:
        spec: the model's tensors, as config.pbtxt declares them.
        settings: the settings in effect.
        hooks: the user's hooks.
        logger: the instance's log.
        padding: how requests of different sizes share a batch; None where they don't.
        precision: what `forward` computes in.
    """

    spec: ModelSpec
    settings: Settings
    hooks: Hooks
    logger: Logger
    padding: Padding | None
    precision: Precision

    @classmethod
    def of(cls, spec: ModelSpec, settings: Settings, hooks: Hooks, logger: Logger) -> Plan:
        """Check that model, settings and hooks go together.

        Raises:
            ConfigError: `pad` or `cuda_graphs` can't be had with this model.
        """
        refuse_extras(spec, settings, hooks)
        padding = Padding.plan(spec, settings, hooks)
        return cls(spec, settings, hooks, logger, padding, Precision.of(settings.precision))

    @property
    def converts_inputs(self) -> bool:
        """Whether inputs change dtype or memory format on the device."""
        return converts_inputs(self.settings, self.precision)

    @property
    def reads_request_info(self) -> bool:
        """Whether requests are asked for what they say beside their inputs."""
        return bool(self.hooks.with_requests) or self.spec.sequences is not None
