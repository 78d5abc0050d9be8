"""`instance_args`: the dict of strings that Triton passes to `initialize`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kindaware.testing.arguments._instances import Instance, count_gpus, place_instance
from kindaware.testing.arguments._json import config_as_dict, dump_config
from kindaware.testing.arguments._normalization import fill_defaults, fill_groups
from kindaware.testing.arguments._protobuf import parse_mapping
from kindaware.testing.arguments._source import ConfigSource, find_config
from kindaware.testing.arguments._validation import validate_config, validate_groups


class ModelArguments:
    """A model's configuration on its way to `initialize`, in the server's steps.

    Args:
        config: path, dict or text; None is an empty configuration.
        name: the model's name; by default the configuration's, else its directory's, else `model`.
        parameters: of the model, over those of the configuration.
        directory: the model's own; by default where the configuration lies, else `/models/<name>`.
        num_gpus: what the simulated host has; by default what `kind`, `device_id` and the groups take.
        kind: of the instances that are to be placed.
        device_id: of theirs.

    Attributes:
        num_gpus: what the simulated host has.

    Raises:
        ConfigError: the configuration can't be found or parsed.
    """

    def __init__(
        self,
        config: ConfigSource | None,
        *,
        name: str | None = None,
        parameters: Mapping[str, str] | None = None,
        directory: str | os.PathLike[str] | None = None,
        num_gpus: int | None = None,
        kind: str | None = None,
        device_id: int = 0,
    ) -> None:
        found = find_config(config)
        self._message = found.message
        self.num_gpus = count_gpus(self._message, kind, device_id) if num_gpus is None else num_gpus
        if name is not None:
            self._message.name = name
        folder = Path(directory).absolute() if directory is not None else found.directory
        fill_defaults(self._message, folder.name if folder else "model")
        for key, value in (parameters or {}).items():
            self._message.parameters[key].string_value = str(value)
        fill_groups(self._message, self.num_gpus)
        self.directory = str(folder) if folder else f"/models/{self.name}"

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self._message.name)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it stands, as the server's JSON parses; a new dict."""
        return config_as_dict(self._message)

    @property
    def config_text(self) -> str:
        """The configuration as it stands, as the server's JSON."""
        return dump_config(self._message)

    def complete(self, config: Mapping[str, Any]) -> None:
        """Replace the configuration by what `auto_complete_config` returned.

        Raises:
            ConfigError: it added something that no configuration has.
        """
        completed = parse_mapping(config, f"model {self.name!r} auto_complete_config")
        for field in ("input", "output", "max_batch_size", "dynamic_batching", "model_transaction_policy"):
            self._message.ClearField(field)
            if field in config:
                _copy_field(completed, self._message, field)
        fill_defaults(self._message, self.name)

    def validate(self) -> None:
        """Refuse what the server refuses.

        Raises:
            ConfigError: with the server's words.
        """
        validate_config(self._message)

    def place(
        self, kind: str | None, device_id: int = 0, *, group_index: int = 0, instance_index: int = 0
    ) -> Instance:
        """Choose an instance; its kind overrules the configuration's.

        Raises:
            ConfigError: there is none, or the host has no such GPU.
        """
        instance = place_instance(
            self._message,
            kind=kind,
            device_id=device_id,
            group_index=group_index,
            instance_index=instance_index,
            num_gpus=self.num_gpus,
        )
        validate_groups(self._message, self.num_gpus)
        return instance

    def args(self, instance: Instance, version: str) -> dict[str, str]:
        """Return the dict for `initialize`, in the server's order."""
        return {
            "model_config": dump_config(self._message),
            "model_instance_kind": instance.kind,
            "model_instance_name": instance.name,
            "model_instance_device_id": str(instance.device_id),
            "model_repository": self.directory,
            "model_version": str(version),
            "model_name": self.name,
        }


def _copy_field(source: Any, target: Any, field: str) -> None:
    descriptor = source.DESCRIPTOR.fields_by_name[field]
    value = getattr(source, field)
    if descriptor.is_repeated:
        getattr(target, field).extend(value)
    elif descriptor.type == descriptor.TYPE_MESSAGE:
        getattr(target, field).CopyFrom(value)
    else:
        setattr(target, field, value)


def instance_args(
    kind: str | None = "CPU",
    device_id: int = 0,
    config: ConfigSource | None = None,
    *,
    name: str | None = None,
    version: str | int = "1",
    instance_name: str | None = None,
    instance_index: int = 0,
    group_index: int = 0,
    repository: str | os.PathLike[str] | None = None,
    parameters: Mapping[str, str] | None = None,
    num_gpus: int | None = None,
) -> dict[str, str]:
    """Return the dict of exactly seven strings that Triton passes to `initialize`.

        args = instance_args("GPU", 1, "models/resnet50")
        model = TritonPythonModel()
        model.initialize(args)

    Args:
        kind: `CPU`, `GPU` or `MODEL`; it wins over the configuration's instance_group. None takes the kind
            that the server would choose.
        device_id: ordinal of the GPU.
        config: path of a config.pbtxt or of a model's directory, text of a config.pbtxt, or a dict; without
            one the configuration is empty.
        name: the model's name; by default the configuration's, else its directory's, else `model`.
        version: the model's version.
        instance_name: by default what the server would make of the group's name.
        instance_index: which instance of its group.
        group_index: which of the configuration's groups.
        repository: the model's own directory, `<repository>/<model>`, as Triton passes it; by default
            where the configuration lies, else `/models/<name>`.
        parameters: model parameters, over those of the configuration.
        num_gpus: what the simulated host has; by default as many as it takes.

    Returns:
        A new dict; `model_config` is normalised as by server 2.51.

    Raises:
        ConfigError: the configuration can't be found or parsed (with line and column), or the server would
            refuse it (in the server's words).
    """
    arguments = ModelArguments(
        config,
        name=name,
        parameters=parameters,
        directory=repository,
        num_gpus=num_gpus,
        kind=kind,
        device_id=device_id,
    )
    arguments.validate()
    instance = arguments.place(kind, device_id, group_index=group_index, instance_index=instance_index)
    args = arguments.args(instance, str(version))
    if instance_name is not None:
        args["model_instance_name"] = instance_name
    return args
