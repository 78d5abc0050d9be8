"""`KindAwareModel`: the base class that users derive from, with its hooks, settings and properties."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from logging import Logger
from typing import TYPE_CHECKING, Any, ClassVar, final

import torch
from torch import nn

from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._config.settings import ModelSettings
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
    streaming_hook,
)
from kindaware._instance import Instance
from kindaware._triton.bls import ModelCalls

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT_BATCH_SIZE = 32
"""`max_batch_size` of a model that supports batching but declares none."""


class KindAwareModel(ModelCalls, SequenceMixin, ModelSettings, DevicePlacement):
    """Base class of a model.py that runs on the device of its `instance_group` and answers in batches.

    Quick start, a complete model.py:

        from kindaware import KindAwareModel
        from torchvision.models import ResNet50_Weights, resnet50

        class TritonPythonModel(KindAwareModel):
            def load(self):
                return resnet50(weights=ResNet50_Weights.IMAGENET1K_V2)

            def forward(self, INPUT):
                return self.model(INPUT)

    Required:
        load(self): build the model. A returned module becomes `self.model`; it and every module among the
            attributes of `self` are moved to the instance's device and put into eval mode.
        forward(self, ...): compute one batch. Takes one tensor per input, [B, ...] on the instance's device,
            by keyword if the parameters have the inputs' names, otherwise by position in the configuration's
            order. Runs in inference mode, with `self.cuda_stream` current. Returns a tensor, a tuple or list
            in the configuration's order, or a mapping, dataclass or named tuple by name; each [B, ...], with
            the configured data types.

    Decoupled:
        stream(self, ...): for a decoupled model, instead of forward or in addition to it: answer one request
            with any number of responses. A generator, with def or async def. Takes the same arguments as
            forward would for this request alone, and yields items of the same form as forward's result.
        begin(self, ...), step(self, states): in place of stream, to compute the items of all open streams
            together. `begin` takes the same arguments as stream and returns the state of one request. `step`
            takes the states of all open streams and returns a list of one result per state: an item, None for
            none, `Next(state, item)` or `Done(item)`.
        begin_batch(self, inputs): beside `begin`, to begin several requests with one forward. Takes a list of
            a mapping of inputs per request, and returns a list of what `begin` would return for each, or
            `RequestError`.
        end(self, state): runs when a stream that `begin` has begun has ended, for whatever reason.

    Optional:
        preprocess(self, inputs): runs per request, before batching. Takes and returns host tensors by name,
            [b, ...]; raise `RequestError` to reject the request.
        row_cost(self, inputs): runs per request, after preprocess. Returns what a row of this size costs, for
            requests that are padded; similar costs then share a batch.
        collate(self, name, tensors): runs per input. Join the requests' tensors, each [b, ...], into one host
            tensor [B, ...], so that requests of different shapes can share a batch. The setting `pad` is an
            alternative.
        postprocess(self, outputs): runs per batch. Takes and returns tensors by name, [B, ...] on the device.
        warmup_inputs(self, rows): return host tensors by name, each [rows, ...], for one warm-up batch.
        unload(self): runs when the instance shuts down.
        is_ready(self): called by Triton from 26.03 on.

    To load a checkpoint such that instances share its memory, use `self.load_weights`.

    To call other models on the server, use `self.call`, `self.call_async` and `self.call_stream`. For
    sequences of requests, use `self.sequence_state` and `self.reschedule`.

    Available to the hooks: `self.device`, `self.devices`, `self.cuda_stream`, `self.model`, `self.args`,
    `self.spec`, `self.parameters`, `self.settings`, `self.logger`.

    Declared in the class, for models without a config.pbtxt: `inputs` and `outputs`, lists of `TensorSpec`,
    and `max_batch_size`. Settings are class attributes too; docs/reference/settings.md lists them.

    Raises:
        ConfigError: on definition, if a subclass overrides `initialize`, `execute` or `finalize`.
        KindAwareError: a property was read before `initialize` had run.
    """

    # Declarations, for models without a config.pbtxt.
    inputs: ClassVar[Sequence[TensorSpec]] = ()
    outputs: ClassVar[Sequence[TensorSpec]] = ()
    max_batch_size: ClassVar[int] = 0

    # Annotations without values: a hook that the user's class doesn't define must not be found.
    load: Callable[..., nn.Module | Awaitable[nn.Module | None] | None]
    forward: Callable[..., Any]
    stream: Callable[..., Iterator[Any] | AsyncIterator[Any]]
    begin: Callable[..., Any]
    begin_batch: Callable[..., Sequence[Any]]
    step: Callable[..., Sequence[Any]]
    end: Callable[[Any], None]
    model: nn.Module

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_definition(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; raise `ConfigError` for a name that the library provides, a hook or a setting.

        Hooks and settings are read from the class, so setting them on an instance would have no effect.
        """
        refuse_assignment(type(self), name, OWN_ATTRIBUTES)
        refuse_late_definition(type(self), name)
        super().__setattr__(name, value)

    @property
    def spec(self) -> ModelSpec:
        """The model's tensors and batching, as its configuration declares them."""
        return _instance_of(self, "self.spec").spec

    @property
    def logger(self) -> Logger:
        """Logger of the instance: writes to Triton's log; plain `logging` without a server."""
        return _instance_of(self, "self.logger").model_logger

    @property
    def cuda_stream(self) -> torch.cuda.Stream | None:
        """The CUDA stream on which the instance works, current in all hooks; None on the CPU."""
        return getattr(_instance_of(self, "self.cuda_stream").runtime, "stream", None)

    def load_weights(
        self,
        network: nn.Module | Callable[[], nn.Module],
        path: str | os.PathLike[str],
        *further: str | os.PathLike[str],
        key: str = "",
        prefix: str = "",
        strict: bool = True,
    ) -> nn.Module:
        """Load a checkpoint into a network such that all instances on the host share its memory.

            def load(self):
                return self.load_weights(resnet50, "weights.safetensors")

        The files are mapped. Where the settings `precision` or `memory_format`, or the network's own dtypes,
        need other tensors than the checkpoint has, the first instance on the CPU writes those to the cache,
        and all instances map them. For a GPU the tensors are copied to the instance's device and converted
        there.

        Args:
            network: a function that makes the network, or a network, which may be on the device `meta`. A
                function is the better choice: it runs without memory for weights, and buffers that no
                checkpoint contains keep their values.
            path: a file, `.safetensors` or made by `torch.save`; a relative path starts in the folder of
                model.py.
            further: more such files, if the checkpoint is split.
            key: of the state_dict in what was saved, such as `state_dict`; empty where that is it.
            prefix: in front of the names in the files, such as `module.`; others are left out.
            strict: False to leave out what the network doesn't have, and to keep the values that the network
                has and the checkpoint doesn't.

        Returns:
            The network, which `load` may return.

        Raises:
            ConfigError: a file is missing or has more in it than tensors, its names or shapes aren't those of
                the network, or converted tensors can't be written to the cache.
            KindAwareError: `initialize` has not run.

        Sync:
            Until another instance has written the converted tensors; on a GPU, host with device.
        """
        from kindaware._device.weights import Weights

        instance = _instance_of(self, "self.load_weights")
        paths = [instance.args.resolve(one) for one in (path, *further)]
        weights = Weights(
            instance.spec.name, instance.args.repository, paths, key=key, prefix=prefix, strict=strict
        )
        with instance.runtime.scope():
            return weights.load(network, instance.placement, instance.settings, os.environ)

    @classmethod
    def auto_complete_config(cls, auto_complete_model_config: Any) -> Any:
        """Add the class's declarations to a model configuration that lacks them.

        Args:
            auto_complete_model_config: Triton's `pb_utils.ModelConfig`.

        Returns:
            The same object. The model becomes decoupled if the class defines `stream` or `step` and
            config.pbtxt has no `model_transaction_policy`. Dynamic batching is enabled if the class defines
            neither and declares a `max_batch_size` above 1, and config.pbtxt names no inputs.

        Raises:
            ConfigError: a declaration is invalid, or disagrees with config.pbtxt.
        """
        streams = streaming_hook(cls) is not None
        complete(cls, auto_complete_model_config, subject=f"class {cls.__name__}", streams=streams)
        return auto_complete_model_config

    @classmethod
    def from_example(cls, **example: Any) -> type[Self]:
        """Infer inputs, outputs and `max_batch_size` from calls with an example.

            Digits.from_example(PIXELS=np.zeros((1, 28, 28), np.float32))
            print(Digits.inputs, Digits.outputs)

        Loads the model in this process, on the CPU, and calls it a few times. Prints what it inferred, and
        why, to standard error.

        Args:
            example: one value per input, by name, with the batch dimension if the model has one: tensors,
                arrays, or lists of text.

        Returns:
            The class itself, with the declarations. A `max_batch_size` above 0 is kept.

        Raises:
            ConfigError: the model fails on the example, or takes or returns something no request can carry.
            Exception: whatever `load` raised.
        """
        from kindaware._authoring.class_example import tensors_of_class

        found = tensors_of_class(cls, example)
        cls.inputs, cls.outputs = list(found.input_specs), list(found.output_specs)
        cls.max_batch_size = (cls.max_batch_size or DEFAULT_BATCH_SIZE) if found.batches else 0
        print(found, file=sys.stderr)
        return cls

    @final
    def initialize(self, args: Mapping[str, str]) -> None:
        """Place the instance, load the model and run the warm-up.

        Works without a server: in a unit test a dict of strings is enough.

        Args:
            args: the dict of strings that Triton passes.

        Raises:
            ConfigError: the class, its settings or the configuration is invalid.
            Exception: whatever `load` raised.

        Sync:
            Until the warm-up has finished on the device.
        """
        check_class(type(self), KindAwareModel)
        instance = Instance(self, args)
        # Before `load` runs, which uses self.device and the other properties.
        attach(self, instance)
        for line in describe_counterparts(type(self), KindAwareModel):
            instance.logger.warning("%s", line)
        instance.start()

    @final
    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer one call of Triton's. Must not be overridden.

        Args:
            requests: the `pb_utils.InferenceRequest` objects that Triton passes.

        Returns:
            One response per request, in order, or None in the place of a rescheduled request; None for a
            decoupled model, whose responses are sent as they are computed.

        Sync:
            Until the outputs of all requests are computed. For a decoupled model: until all its generators
            have ended, or with an asynchronous `stream` or `step` until there was room for all of them among
            the `max_streams` that run at once.
        """
        return _instance_of(self, "execute").execute(requests)

    @final
    def finalize(self) -> None:
        """End running streams, hand the last counters to Triton, and call `unload`."""
        instance = _instance_of(self, "finalize")
        instance.end()
        instance.check_ended()

    def unload(self) -> Awaitable[None] | None:
        """Release the resources that `load` acquired; does nothing unless overridden."""
        return None

    def is_ready(self) -> bool:
        """Whether the instance can answer requests: False once its device has failed."""
        return _instance_of(self, "is_ready").is_ready


def _instance_of(owner: KindAwareModel, what: str) -> Instance:
    instance: Instance = attached(owner, what)
    return instance
