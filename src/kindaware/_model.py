"""`KindAwareModel`: the hooks that a user implements, the settings, and what the hooks can use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from logging import Logger
from typing import Any, ClassVar, final

import torch
from torch import nn

from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._device_placement import DevicePlacement
from kindaware._execute.sequence_mixin import SequenceMixin
from kindaware._hooks.attachment import attach, attached
from kindaware._hooks.auto_complete import complete
from kindaware._hooks.class_rules import (
    OWN_ATTRIBUTES,
    check_class,
    check_definition,
    describe_counterparts,
    refuse_assignment,
    refuse_late_definition,
)
from kindaware._instance import Instance
from kindaware._triton.bls import ModelCalls


class KindAwareModel(ModelCalls, SequenceMixin, DevicePlacement):
    """Base class of a model.py that runs where its `instance_group` says, and answers in batches.

    Quick start, the whole of a model.py:

        from kindaware import KindAwareModel
        from torchvision.models import ResNet50_Weights, resnet50

        class TritonPythonModel(KindAwareModel):
            def load(self):
                return resnet50(weights=ResNet50_Weights.IMAGENET1K_V2)

            def forward(self, INPUT):
                return self.model(INPUT)

    Required:
        load(self): make the model. A module that is returned is kept as `self.model`; it and every module
            left on `self` are moved to the instance's device and put into eval mode.
        forward(self, ...): answer one batch. Gets one tensor per input, [B, ...] on the instance's device:
            by keyword when the parameters have the inputs' names, else by position in the configuration's
            order. Returns a tensor, a tuple or list in the configuration's order, or a mapping, dataclass
            or named tuple by name.

    For a decoupled model, in place of forward or beside it:
        stream(self, ...): answer one request with any number of responses. A generator, with def or async
            def; gets what forward would get for this request alone, and each item that it yields is what
            forward might return.

    Optional:
        preprocess(self, inputs): per request, before batching. Gets and returns host tensors by name,
            [b, ...]; raises `RequestError` to refuse the request.
        collate(self, name, tensors): per input, joins the requests' tensors into one host tensor [B, ...];
            when it is there, requests of different shapes come together. The setting `pad` does so too.
        postprocess(self, outputs): per batch. Gets and returns tensors by name on the device.
        warmup_inputs(self, rows): host tensors by name for one warm-up batch.
        unload(self): called when the instance ends.
        is_ready(self): asked by Triton from 26.03 on.

    To call other models of the server: `self.call`, `self.call_async` and `self.call_stream`. For sequences
    of requests: `self.sequence_state` and `self.reschedule`.

    There for the hooks: `self.device`, `self.devices`, `self.cuda_stream`, `self.model`, `self.args`,
    `self.spec`, `self.parameters`, `self.settings`, `self.logger`.

    Declared in the class, for models without a config.pbtxt: `inputs` and `outputs`, lists of `TensorSpec`,
    and `max_batch_size`. Settings are class attributes too; docs/settings.md lists them.
    """

    keep_memory: ClassVar[str] = "auto"
    precision: ClassVar[str] = "32-true"
    memory_format: ClassVar[str] = "contiguous"
    compile: ClassVar[str] = "off"
    cuda_graphs: ClassVar[str | Sequence[int]] = "off"
    output_device: ClassVar[str] = "cpu"
    pinned_limit_bytes: ClassVar[int] = 256 * 2**20
    warmup: ClassVar[str | Sequence[int] | None] = None
    cast_outputs: ClassVar[bool] = False
    reload_on_fault: ClassVar[bool] = False
    metrics: ClassVar[bool] = True
    cancellation: ClassVar[str] = "auto"
    isolate_errors: ClassVar[bool] = True
    pad: ClassVar[str | Mapping[str, Any] | None] = None
    max_streams: ClassVar[int] = 64
    max_sequences: ClassVar[int] = 1024

    inputs: ClassVar[Sequence[TensorSpec]] = ()
    outputs: ClassVar[Sequence[TensorSpec]] = ()
    max_batch_size: ClassVar[int] = 0

    load: Callable[..., nn.Module | None]
    forward: Callable[..., Any]
    stream: Callable[..., Iterator[Any] | AsyncIterator[Any]]
    model: nn.Module

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_definition(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to overwrite what the library provides, and hooks and settings set too late."""
        refuse_assignment(type(self), name, OWN_ATTRIBUTES)
        refuse_late_definition(type(self), name)
        super().__setattr__(name, value)

    @property
    def spec(self) -> ModelSpec:
        """The model's tensors and groups, as its configuration declares them."""
        return _instance_of(self, "self.spec").spec

    @property
    def logger(self) -> Logger:
        """Onto Triton's log; plain `logging` without a server."""
        return _instance_of(self, "self.logger").logger

    @property
    def cuda_stream(self) -> torch.cuda.Stream | None:
        """The stream on which the instance works; None on the CPU."""
        return getattr(_instance_of(self, "self.cuda_stream").runtime, "stream", None)

    @classmethod
    def auto_complete_config(cls, auto_complete_model_config: Any) -> Any:
        """Write what the class declares into a configuration that doesn't say it.

        Args:
            auto_complete_model_config: Triton's `pb_utils.ModelConfig`.

        Returns:
            The same object. The model is decoupled when the class defines `stream` and config.pbtxt has no
            `model_transaction_policy`. Requests are batched dynamically when the class defines no `stream`
            and a `max_batch_size` above 1, and config.pbtxt names no inputs.
        """
        streams = callable(getattr(cls, "stream", None))
        complete(cls, auto_complete_model_config, subject=f"class {cls.__name__}", streams=streams)
        return auto_complete_model_config

    @final
    def initialize(self, args: Mapping[str, str]) -> None:
        """Place the instance, load the model and run the warm-up.

        Works without a server: in a unit test a dict of strings is enough.

        Raises:
            ConfigError: the class, its settings or the configuration can't be served as they are.
        """
        check_class(type(self), KindAwareModel)
        instance = Instance(self, args)
        attach(self, instance)
        for line in describe_counterparts(type(self), KindAwareModel):
            instance.logger.warning("%s", line)
        instance.start()

    @final
    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer one call of Triton's. Not to be overridden.

        Returns:
            One response per request, in order; None for a decoupled model, whose responses are sent.
        """
        return _instance_of(self, "execute").execute(requests)

    @final
    def finalize(self) -> None:
        """End what still streams, hand over the last counters and call `unload`, as the instance ends."""
        try:
            _instance_of(self, "finalize").end()
        finally:
            self.unload()

    def unload(self) -> None:
        """Let go of what `load` opened; nothing unless overridden."""

    def is_ready(self) -> bool:
        """Whether the instance can answer: False once its device has failed."""
        return _instance_of(self, "is_ready").is_ready


def _instance_of(owner: KindAwareModel, what: str) -> Instance:
    instance: Instance = attached(owner, what)
    return instance
