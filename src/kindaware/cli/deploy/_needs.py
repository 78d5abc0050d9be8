"""What the models of a repository need of a pod: processes, cores, memory, shared memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._deployment.workload import MIB
from kindaware._errors import ConfigError, OptionError
from kindaware._placement.versions import count_versions
from kindaware._server.instances import count_instances
from kindaware.cli._machine import Machine
from kindaware.cli._shared_memory import count_batch_bytes
from kindaware.cli.check._session import find_models
from kindaware.cli.check._subject import Subject, Trial
from kindaware.cli.check._trial import TrialOptions, run_trial
from kindaware.testing.arguments import ModelArguments, new_config

_SERVER_BYTES = 512 * MIB
"""Of the server itself: 38 MiB without a request (2.51, on a CPU); the rest is for requests under way."""

_REGION_BYTES = MIB
"""What each process takes of /dev/shm when it starts, and grows by."""

_STEP_BYTES = 64 * MIB
"""Sizes are rounded up to so much."""

_MARGIN = 1.25
"""Over the most memory that a model's process took when it was tried."""


@dataclass(frozen=True)
class ModelNeeds:
    """What one model needs.

    Attributes:
        name: of the model.
        num_instances: processes, over all versions and GPUs of a pod.
        num_cores: of all of them.
        rows: of its largest batch.
        batch_bytes: inputs and outputs of such a batch.
        peak_bytes: most memory of one process when it was tried; 0 if it wasn't.
        is_python: whether it is a model of the Python backend.
        has_sequences: whether requests belong to sequences, which one server must get.
    """

    name: str
    num_instances: int
    num_cores: int
    rows: int
    batch_bytes: int
    peak_bytes: int
    is_python: bool
    has_sequences: bool

    @property
    def shm_bytes(self) -> int:
        """Its part of /dev/shm: room for two full batches in each process."""
        return self.num_instances * (max(2 * self.batch_bytes, _REGION_BYTES) + _REGION_BYTES)


@dataclass(frozen=True)
class Needs:
    """What a pod needs for all its models.

    Attributes:
        models: each of them.
        num_gpus: of a pod.
        num_cores: of a pod.
        shm_bytes: size of /dev/shm.
        memory_bytes: of a pod, with /dev/shm.
    """

    models: tuple[ModelNeeds, ...]
    num_gpus: int
    num_cores: int
    shm_bytes: int
    memory_bytes: int

    @property
    def num_stubs(self) -> int:
        """Processes of Python models."""
        return sum(one.num_instances for one in self.models if one.is_python)

    @property
    def pending_requests(self) -> int:
        """Requests that may wait in a pod: one more batch for every instance of the model with the most."""
        return max((one.num_instances * max(1, one.rows) for one in self.models), default=1)


@dataclass(frozen=True)
class Sizes:
    """What the command line says about sizes; None where they are to be found out.

    Attributes:
        num_gpus: of a pod.
        num_cores: of a pod.
        shm_bytes: of /dev/shm.
        memory_bytes: of a pod.
        shapes: largest sizes of one row, of tensors whose dims have -1.
        text_bytes: the longest text; 0 if it isn't known.
    """

    num_gpus: int | None
    num_cores: int | None
    shm_bytes: int | None
    memory_bytes: int | None
    shapes: Mapping[str, Sequence[int]]
    text_bytes: int


def find_needs(repository: Path, sizes: Sizes, *, seconds: float) -> Needs:
    """Load the models of a repository, one after the other, and add up what they need.

    With both sizes of memory given, no model is loaded.

    Raises:
        ConfigError: a model can't be read, doesn't load or doesn't answer.
        OptionError: a size can't be found out.
    """
    new_config()  # raises where the packages that know its format are missing
    machine = Machine()
    subjects = [Subject(folder, machine) for folder in find_models(repository)]
    num_gpus = _count_gpus(subjects) if sizes.num_gpus is None else sizes.num_gpus
    is_tried = sizes.shm_bytes is None or sizes.memory_bytes is None
    models = []
    for subject in subjects:
        if subject.is_python and is_tried:
            typer.echo(f"loading {subject.name}, to see what it needs", err=True)
            subject.trial = _try(subject, TrialOptions(sizes.shapes, seconds=seconds))
        models.append(_find_model_needs(subject, sizes, num_gpus))
    return _add_up(models, sizes, num_gpus)


def _add_up(models: Sequence[ModelNeeds], sizes: Sizes, num_gpus: int) -> Needs:
    shm = sizes.shm_bytes
    if shm is None:
        shm = _round_up(sum(one.shm_bytes for one in models if one.is_python))
    memory = sizes.memory_bytes
    if memory is None:
        processes = sum(one.num_instances * one.peak_bytes for one in models)
        memory = _round_up(_SERVER_BYTES + _MARGIN * processes) + shm
    if memory <= shm:
        raise OptionError.of(
            "--memory",
            expected=f"more than the {shm // MIB} MiB of /dev/shm, which it includes",
            got=f"{memory // MIB} MiB",
            remedy="raise it, or lower --shm-size",
        )
    cores = sizes.num_cores or max(2, 1 + sum(one.num_cores for one in models))
    return Needs(tuple(models), num_gpus, cores, shm, memory)


def _find_model_needs(subject: Subject, sizes: Sizes, num_gpus: int) -> ModelNeeds:
    config = _complete(subject, num_gpus)
    spec = ModelSpec.from_config(config)
    versions = count_versions(str(subject.folder), config)
    instances = versions * count_instances(config)
    if subject.is_ensemble:
        instances = 0
    elif not subject.is_python and (sizes.memory_bytes is None):
        raise OptionError.of(
            f"model {subject.name!r}",
            expected="--memory and --shm-size, since only models of the Python backend can be tried here",
            got=f"backend {config.get('backend') or 'unknown'}",
            remedy="pass both",
        )
    threads = spec.parameters.get("kindaware.num_threads", "")
    is_counted = subject.is_python and sizes.shm_bytes is None
    rows = max(1, spec.max_batch_size)
    return ModelNeeds(
        name=subject.name,
        num_instances=instances,
        num_cores=instances * (int(threads) if threads.isdecimal() else 1),
        rows=rows,
        batch_bytes=_count_bytes(spec, rows, sizes) if is_counted else 0,
        peak_bytes=subject.trial.peak_bytes if subject.trial else 0,
        is_python=subject.is_python,
        has_sequences=spec.sequences is not None,
    )


def _complete(subject: Subject, num_gpus: int) -> Mapping[str, Any]:
    """Return the configuration as a server with so many GPUs completes it, with what the class declares."""
    if subject.config_error is not None:
        raise subject.config_error
    arguments = ModelArguments(subject.config_text, directory=subject.folder, num_gpus=num_gpus)
    if subject.trial is not None and subject.trial.config is not None:
        arguments.complete(subject.trial.config)
    arguments.validate()
    return arguments.config


def _count_bytes(spec: ModelSpec, rows: int, sizes: Sizes) -> int:
    tensors = [
        (tensor.dtype.torch_name or "BYTES", _find_shape(spec.name, kind, tensor, sizes))
        for kind, all_ in (("input", spec.inputs), ("output", spec.outputs))
        for tensor in all_
    ]
    return count_batch_bytes(tensors, rows, text_bytes=sizes.text_bytes)


def _find_shape(model: str, kind: str, tensor: TensorSpec, sizes: Sizes) -> Sequence[int]:
    """Return the largest shape of a row; nothing is made up, since /dev/shm is what a pod dies of."""
    subject = f"model {model!r} {kind} {tensor.name!r}"
    if tensor.dtype.torch_name is None and not sizes.text_bytes:
        raise OptionError.of(
            subject,
            expected="the length of its longest text, for the size of /dev/shm",
            got="a text of any length",
            remedy="pass --text-bytes 4096, or the size itself: --shm-size 1Gi",
        )
    shape = sizes.shapes.get(tensor.name, tensor.shape)
    if -1 in shape or not tensor.fits(shape):
        example = ",".join(str(size if size > 0 else 512) for size in tensor.shape)
        raise OptionError.of(
            subject,
            expected="the largest sizes of a row, for the size of /dev/shm",
            got=f"dims {list(tensor.shape)}" + (f" and {list(shape)}" if tensor.name in sizes.shapes else ""),
            remedy=f"pass --shape {tensor.name}:{example}, or the size itself: --shm-size 1Gi",
        )
    return shape


def _try(subject: Subject, options: TrialOptions) -> Trial:
    if subject.config_error is not None:
        raise subject.config_error
    trial = run_trial(subject, options)
    error = trial.error or (trial.request or {}).get("error")
    if error is not None:
        raise ConfigError.of(
            f"model {subject.name!r}",
            expected="one that loads and answers, to see what it needs",
            got=error["text"],
            remedy=f"see kindaware check {subject.folder}; or pass --memory and --shm-size, "
            "and it isn't loaded here",
        )
    return trial


def _count_gpus(subjects: Sequence[Subject]) -> int:
    """Return the GPUs that a pod must have for the configurations: those that they name, or one."""
    readable = [one for one in subjects if one.config_error is None]
    return max(
        (ModelArguments(one.config_text, directory=one.folder).num_gpus for one in readable), default=0
    )


def _round_up(num_bytes: float) -> int:
    return max(1, -(-int(num_bytes) // _STEP_BYTES)) * _STEP_BYTES
