"""Rules about this machine."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kindaware._server.failure import ServerError
from kindaware.cli._shared_memory import count_batch_bytes
from kindaware.cli.check._registry import Found, rule
from kindaware.cli.check._subject import Subject


@rule("KA501", "error", "the configuration asks for a GPU that this machine doesn't have", stage="machine")
def no_gpu(subject: Subject) -> Iterator[Found]:
    """The model was tried on the CPU."""
    wanted = {gpu for kind, _, gpus in subject.groups() if kind == "KIND_GPU" for gpu in gpus}
    on_gpu = any(kind == "KIND_GPU" for kind, _, _ in subject.groups())
    have = subject.machine.num_gpus
    line = subject.tree.line_of("instance_group")
    if on_gpu and not have:
        yield Found(
            "instance_group asks for KIND_GPU, and torch sees no GPU here",
            "serve it elsewhere, set KIND_CPU, or check it here with --kind CPU",
            line,
        )
    elif missing := sorted(gpu for gpu in wanted if gpu >= have):
        yield Found(
            f"instance_group asks for GPU {missing[0]}, and torch sees {have} here", "correct gpus", line
        )


@rule("KA502", "warning", "/dev/shm is too small for a full batch of each instance", stage="machine")
def small_shared_memory(subject: Subject) -> Iterator[Found]:
    """The Python backend's processes get tensors through it."""
    memory = subject.machine.shared_memory
    request = subject.trial.request if subject.trial is not None else None
    if memory is None or request is None:
        return
    rows = max(1, subject.max_batch_size)
    num_instances = sum(count * max(1, len(gpus)) for _, count, gpus in subject.groups())
    tensors = [*request["inputs"].values(), *request["outputs"].values()]
    needed = count_batch_bytes(tensors, rows) * num_instances
    if needed > memory.total / 2:
        yield Found(
            f"full batches of {rows} rows in {num_instances} instance(s) take {_mib(needed)} of /dev/shm, "
            f"which has {_mib(memory.total)}",
            f"give it more (docker run --shm-size={math.ceil(2 * needed / 2**30)}g), or lower max_batch_size",
            level="error" if needed > memory.total else None,
        )


@rule(
    "KA503",
    "error",
    "Triton's Python stub can't run with this Python or its packages",
    stage="machine",
)
def unfit_interpreter(subject: Subject) -> Iterator[Found]:
    """No stub for this version of Python, no libpython, numpy 2, or a mock of Triton's module."""
    server = subject.machine.server
    if server is None or not server.is_wheel or not subject.is_python:
        return
    try:
        subject.machine.interpreter.check_for(server.stubs)
    except ServerError as error:
        text, _, remedy = str(error).rpartition("; ")
        yield Found(text, remedy)


@rule("KA504", "hint", "no tritonserver was found", stage="machine")
def no_server(subject: Subject) -> Iterator[Found]:
    """So its Python and numpy were not compared with the server's."""
    if subject.machine.server is None and subject.is_python:
        yield Found(
            "no tritonserver was found, so Python and numpy were not compared with its stubs",
            "pip install 'nvidia-pytriton>=0.7.0,<0.8' 'numpy<2', or ignore KA504",
        )


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB"
