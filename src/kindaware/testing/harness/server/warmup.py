"""The requests of `model_warmup`, which the server sends to every instance before it serves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kindaware.testing.harness.failures import ModelLoadError
from kindaware.testing.harness.pending import Admitted, ClientRequest, Pending
from kindaware.testing.harness.process.instance import Instance
from kindaware.testing.harness.process.waiting import wait_for
from kindaware.testing.harness.server.input_check import InputCheck, RefusedRequest
from kindaware.testing.stand_in import WireTensor
from kindaware.testing.stand_in.wire.datatypes import ITEM_BYTES, name_of_config

_LABEL = ClientRequest().label


@dataclass(frozen=True)
class Sample:
    """One entry of `model_warmup`.

    Attributes:
        name: of the entry.
        count: how many calls of `execute` it makes.
        batch_size: how many requests there are in a call, each with one row.
        request: which all of them equal.
    """

    name: str
    count: int
    batch_size: int
    request: ClientRequest


class Warmup:
    """Sends a model its warm-up requests.

    Source: core `backend_model_instance.cc`, WarmupData and TritonModelInstance::GenerateWarmupData, WarmUp
    (commit 55e6672); texts measured on 2.51.0.

    Args:
        config: the completed configuration.
        directory: the model's own; files are in `warmup` there.
        version: of the model.
        check: the checks of its requests.
    """

    def __init__(self, config: Mapping[str, Any], directory: str, version: str, check: InputCheck) -> None:
        self._model = config["name"]
        self._max_batch_size = int(config["max_batch_size"])
        self._known = {tensor["name"] for tensor in config["input"]}
        self._settings = [one for one in config["model_warmup"] if int(one["batch_size"])]
        self._directory = Path(directory, "warmup")
        self._version = version
        self._check = check

    def run(self, instance: Instance, timeout_seconds: float) -> None:
        """Send an instance all of them; the first that fails ends it.

        Raises:
            ModelLoadError: the settings are wrong, or a request failed.
            TritonContractError: a request is never answered.
        """
        for sample in [self._read(setting) for setting in self._settings]:
            instance.occasion = f"the warm-up sample {sample.name!r} of model_warmup"
            for _ in range(sample.count):
                self._run(instance, sample, timeout_seconds)
        instance.occasion = ""

    def _run(self, instance: Instance, sample: Sample, timeout_seconds: float) -> None:
        limit = self._max_batch_size
        if sample.batch_size > max(limit, 1):
            text = f"batch size {sample.batch_size} for '{instance.instance_name}', max allowed is {limit}"
            raise self._failure(sample, [text] * sample.batch_size)
        names = self._check.output_names(sample.request)
        pendings = [Pending(sample.request) for _ in range(sample.batch_size)]
        instance.run([Admitted(one, one.sent, one.sent.inputs, names, is_warmup=True) for one in pendings])
        for one in pendings:
            wait_for(one, instance, timeout_seconds)
        errors = [answer.failure.message for one in pendings for answer in one.answers if answer.failure]
        if errors:
            raise self._failure(sample, errors)

    def _read(self, setting: Mapping[str, Any]) -> Sample:
        inputs = [self._tensor(name, one) for name, one in setting["inputs"].items()]
        checked = [wire for wire in inputs if wire.name in self._known]
        try:
            known = self._check.check(ClientRequest(inputs=tuple(checked)))
        except RefusedRequest as error:
            raise self._error(error.failure.message) from None
        others = [wire for wire in inputs if wire.name not in self._known]
        request = ClientRequest(inputs=(*known, *others))
        return Sample(setting["name"], int(setting["count"]) or 1, int(setting["batch_size"]), request)

    def _tensor(self, name: str, setting: Mapping[str, Any]) -> WireTensor:
        datatype = name_of_config(setting["data_type"])
        dims = [int(dim) for dim in setting["dims"]]
        if any(dim < 0 for dim in dims):
            text = f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
            raise self._error(text)
        shape = (1, *dims) if self._max_batch_size else tuple(dims)
        num_bytes = math.prod(dims) * ITEM_BYTES.get(datatype, 4)
        if "input_data_file" in setting:
            data = self._read_file(setting["input_data_file"], num_bytes, datatype)
        elif "zero_data" in setting or datatype == "BYTES":
            data = bytes(num_bytes)
        elif "random_data" in setting:
            data = np.random.default_rng(0).bytes(num_bytes)
        else:
            raise self._error(f"{_LABEL}warmup setting expects input '{name}' to have input_data_type set")
        return WireTensor(name, datatype, shape, data)

    def _read_file(self, name: str, num_bytes: int, datatype: str) -> bytes:
        path = self._directory / name
        try:
            data = path.read_bytes()
        except OSError as error:
            text = f"failed to open text file for read {path}: {error.strerror}"
            raise ModelLoadError(self._model, self._version, text) from None
        if datatype == "BYTES":
            return data
        if len(data) < num_bytes:
            raise self._error(
                f"{_LABEL}warmup setting expects {num_bytes} bytes, but the data provided from {name}only "
                f"has {len(data)} bytes"
            )
        return data[:num_bytes]

    def _failure(self, sample: Sample, errors: list[str]) -> ModelLoadError:
        told = "".join(f"{error}; " for error in errors)
        return self._error(f"failed to run warmup sample '{sample.name}': {told}")

    def _error(self, text: str) -> ModelLoadError:
        return ModelLoadError(self._model, self._version, text, "Invalid argument")
