"""The model's tensors and instance groups, as its configuration declares them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kindaware._config.parse import REMEDY, read_integer, read_list, read_sizes, read_text, shorten
from kindaware._config.sequence_spec import SequenceSpec
from kindaware._errors import ConfigError
from kindaware._tensors.dtypes import DType, find_dtype


@dataclass(frozen=True, slots=True, init=False)
class TensorSpec:
    """An input or output, as config.pbtxt or the class declares it.

    Args:
        name: name of the tensor.
        dtype: Triton's data type, such as `"FP32"` or `"TYPE_FP32"`.
        shape: shape of one row, -1 for a dimension of any size; without the batch dimension if the model
            batches.
        optional: for an input, whether a request may omit it.

    Raises:
        ConfigError: the name is empty, the data type unknown, or a dimension neither -1 nor positive.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    optional: bool = False

    def __init__(self, name: str, dtype: str, shape: Sequence[int], *, optional: bool = False) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError.of("tensor", expected="a name", got=repr(name), remedy="name every tensor")
        subject = f"tensor {name!r}"
        # A frozen dataclass allows no plain assignment, and the arguments are wider than the fields.
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "dtype", find_dtype(dtype, f"{subject} data_type"))
        object.__setattr__(self, "shape", read_sizes(shape, f"{subject} dims"))
        object.__setattr__(self, "optional", optional)

    @classmethod
    def from_config(cls, entry: Any, subject: str) -> TensorSpec:
        """Read one entry of the configuration's `input` or `output`.

        A `reshape` overrides `dims`: it is the shape in which the tensor reaches the model.
        Source: triton core `infer_request.cc`, InferenceRequest::Normalize.

        Args:
            entry: the entry, as parsed from JSON.
            subject: the entry's path in the configuration, for messages.

        Raises:
            ConfigError: the entry is not an object, or declares no valid tensor.
        """
        if not isinstance(entry, Mapping):
            raise ConfigError.of(subject, expected="an object", got=shorten(entry), remedy=REMEDY)
        reshape = entry.get("reshape")
        dims = reshape.get("shape", []) if isinstance(reshape, Mapping) else entry.get("dims")
        optional = entry.get("optional") is True
        return cls(entry.get("name"), entry.get("data_type"), dims, optional=optional)  # type: ignore[arg-type]  # checked in there

    @property
    def is_dynamic(self) -> bool:
        """Whether any dimension is -1."""
        return -1 in self.shape

    def fits(self, shape: Iterable[int]) -> bool:
        """Whether the declaration allows a row of this shape."""
        sizes = tuple(shape)
        return len(sizes) == len(self.shape) and all(
            want in (-1, size) for want, size in zip(self.shape, sizes, strict=True)
        )

    def to_config(self) -> dict[str, Any]:
        """Return the entry in the form that `pb_utils.ModelConfig.add_input` and `add_output` take."""
        return {"name": self.name, "data_type": self.dtype.in_config, "dims": list(self.shape)}

    def __repr__(self) -> str:
        optional = ", optional=True" if self.optional else ""
        return f"TensorSpec({self.name!r}, {str(self.dtype)!r}, {list(self.shape)}{optional})"


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """One entry of `instance_group`, as the server completes it.

    Attributes:
        name: name of the group; its instances are called `<name>_<n>`.
        kind: `KIND_CPU`, `KIND_GPU`, `KIND_MODEL` or `KIND_AUTO`.
        num_instances: number of instances of this group on this host, over all its GPUs.
        host_policy: name of the host policy; empty for none.
    """

    name: str
    kind: str
    num_instances: int
    host_policy: str

    @classmethod
    def from_config(cls, entry: Any, subject: str) -> InstanceGroup:
        """Read one entry of the configuration's `instance_group`."""
        if not isinstance(entry, Mapping):
            raise ConfigError.of(subject, expected="an object", got=shorten(entry), remedy=REMEDY)
        # `count` is per GPU; a group that lists none, or has a count of 0, still counts as one instance.
        num_gpus = len(read_list(entry, "gpus", subject))
        count = read_integer(entry.get("count", 1), f"{subject} count", lowest=0)
        return cls(
            name=read_text(entry, "name", subject),
            kind=read_text(entry, "kind", subject) or "KIND_AUTO",
            num_instances=max(count, 1) * max(num_gpus, 1),
            host_policy=read_text(entry, "host_policy", subject),
        )


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The model's tensors and batching, as its configuration declares them.

    Attributes:
        name: name of the model.
        max_batch_size: maximum number of rows per forward; 0 if the model does not batch.
        inputs: the declared inputs, in the configuration's order.
        outputs: the declared outputs, in the configuration's order.
        parameters: the configuration's `parameters`, name to string value.
        preferred_batch_sizes: the dynamic batcher's `preferred_batch_size`, in rows; empty for none.
        decoupled: whether a request may get any number of responses.
        sequences: the configuration of sequence batching; None if requests belong to no sequences.
    """

    name: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)
    preferred_batch_sizes: tuple[int, ...] = ()
    decoupled: bool = False
    sequences: SequenceSpec | None = None

    @property
    def hook(self) -> str:
        """Name of the hook that answers requests: `stream` for a decoupled model, else `forward`."""
        return "stream" if self.decoupled else "forward"

    @property
    def batches(self) -> bool:
        """Whether tensors have a batch dimension."""
        return self.max_batch_size > 0

    @property
    def may_get_gpu_inputs(self) -> bool:
        """Whether Triton may pass inputs in GPU memory."""
        return self.parameters.get("FORCE_CPU_ONLY_INPUT_TENSORS") == "no"

    @property
    def is_uniform(self) -> bool:
        """Whether any two requests can share a batch: all have the same inputs, row shapes and device.

        The server itself refuses requests whose names, data types or sizes differ from the declaration.
        Source: triton core `infer_request.cc`, InferenceRequest::Normalize; measured on tritonserver 2.51.0.
        """
        is_fixed = not any(tensor.is_dynamic or tensor.optional for tensor in self.inputs)
        return self.batches and is_fixed and not self.may_get_gpu_inputs

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelSpec:
        """Read Triton's model configuration; fields that the server fills in may be missing.

        Raises:
            ConfigError: the configuration is not one that Triton passes, or asks for an unsupported feature.
        """
        subject = "model_config"
        _refuse_unbuilt(config)
        batcher = config.get("dynamic_batching") or {}
        if not isinstance(batcher, Mapping):
            raise ConfigError.of(
                f"{subject} dynamic_batching", expected="an object", got=shorten(batcher), remedy=REMEDY
            )
        policy = config.get("model_transaction_policy")
        sizes = read_list(batcher, "preferred_batch_size", f"{subject} dynamic_batching")
        return cls(
            name=read_text(config, "name", subject),
            max_batch_size=read_integer(
                config.get("max_batch_size", 0), f"{subject} max_batch_size", lowest=0
            ),
            inputs=_tensors(config, "input"),
            outputs=_tensors(config, "output"),
            parameters=parameters_of(config),
            preferred_batch_sizes=tuple(
                read_integer(size, f"{subject} preferred_batch_size", lowest=1) for size in sizes
            ),
            decoupled=isinstance(policy, Mapping) and policy.get("decoupled") is True,
            sequences=SequenceSpec.from_config(config),
        )

    def completed(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], max_batch_size: int
    ) -> ModelSpec:
        """Return the spec with the class's declarations, if the configuration names no tensors at all.

        In a server the configuration always names them, since auto-complete has written the class's
        declarations into it; a unit test need not repeat them.

        Raises:
            ConfigError: `max_batch_size` in the configuration exceeds the class's; auto-complete refuses it.
                Source: python_backend, ModelConfig.set_max_batch_size.
        """
        read_integer(max_batch_size, "class attribute max_batch_size", lowest=0, remedy="correct the class")
        if 0 < max_batch_size < self.max_batch_size:
            raise ConfigError.of(
                f"model {self.name!r} max_batch_size",
                expected=f"at most {max_batch_size}, which the class declares",
                got=f"{self.max_batch_size} in the configuration",
                remedy="correct one of the two, or leave it out",
            )
        if self.inputs or self.outputs:
            return self
        batch = self.max_batch_size or max_batch_size
        return replace(self, inputs=tuple(inputs), outputs=tuple(outputs), max_batch_size=batch)


def _refuse_unbuilt(config: Mapping[str, Any]) -> None:
    """Refuse features that would be silently ignored."""
    wanted = {
        "batch_input": bool(config.get("batch_input")),
        "batch_output": bool(config.get("batch_output")),
    }
    for feature, is_wanted in wanted.items():
        if is_wanted:
            raise ConfigError.of(
                f"model {config.get('name')!r}",
                expected="a configuration that this version of kindaware can honour",
                got=feature,
                remedy="remove it, or keep your own execute on kindaware.DevicePlacement",
            )


def _tensors(config: Mapping[str, Any], key: str) -> tuple[TensorSpec, ...]:
    entries = read_list(config, key, "model_config")
    specs = tuple(
        TensorSpec.from_config(entry, f"model_config {key}[{n}]") for n, entry in enumerate(entries)
    )
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError.of(
                f"model_config {key}", expected="names that differ", got=f"{name!r} twice", remedy=REMEDY
            )
    return specs


def instance_groups_of(config: Mapping[str, Any]) -> tuple[InstanceGroup, ...]:
    """Return the configuration's `instance_group`; empty if it has none.

    Raises:
        ConfigError: an entry is not one that Triton passes.
    """
    subject = "model_config"
    return tuple(
        InstanceGroup.from_config(entry, f"{subject} instance_group[{n}]")
        for n, entry in enumerate(read_list(config, "instance_group", subject))
    )


def parameters_of(config: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the configuration's `parameters`, name to string value.

    Raises:
        ConfigError: a value is not wrapped in `string_value`, as Triton wraps it.
    """
    entries = config.get("parameters") or {}
    texts = {}
    # Anything but a mapping is reported like a single entry without a name.
    for name, entry in entries.items() if isinstance(entries, Mapping) else [("", entries)]:
        value = entry.get("string_value") if isinstance(entry, Mapping) else None
        if not isinstance(value, str):
            raise ConfigError.of(
                f"model_config parameters {name!r}",
                expected='{"string_value": "..."}',
                got=shorten(entry),
                remedy=REMEDY,
            )
        texts[name] = value
    return texts
