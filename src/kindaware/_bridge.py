"""The only module that touches `triton_python_backend_utils`: reads requests, builds responses, logs."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from kindaware._batch import Request
from kindaware._bytes import Value
from kindaware._errors import ConfigError, KindAwareError, describe, message
from kindaware._outcomes import Failure, Outcome
from kindaware._request_info import RequestInfo
from kindaware._runtime import Runtime
from kindaware._spec import ModelSpec

PB_UTILS = "triton_python_backend_utils"
_STUB_ONLY = "c_python_backend_utils"


def find_pb_utils() -> ModuleType | None:
    """Give Triton's module when this process is a stub, or something that stands in for it; else None.

    The stub imports the module before model.py, so it is never imported from here.
    Source: python_backend `pb_stub.cc`, Stub::Initialize.
    """
    module = sys.modules.get(PB_UTILS)
    return module if module is not None and hasattr(module, "InferenceResponse") else None


def check_pb_utils(pb_utils: ModuleType) -> None:
    """Refuse a module that shadows the server's, and a numpy that the stub can't read.

    Raises:
        ConfigError: with what to uninstall or install.
    """
    _check_shadow(pb_utils)
    probe = torch.arange(8.0)
    read = pb_utils.Tensor.from_dlpack("probe", probe).as_numpy()
    if read.shape != (8,) or read.tolist() != probe.tolist():
        import numpy

        raise ConfigError.of(
            "this server's Python backend and numpy",
            expected="a tensor read through both to keep its values",
            got=f"{read.tolist()} for {probe.tolist()} with numpy {numpy.__version__}",
            remedy="install 'numpy<2' in the environment of the stub, or use Triton 24.11 or newer",
        )


def _is_stand_in(pb_utils: ModuleType) -> bool:
    """Whether this is a complete stand-in, made for tests.

    Source: python_backend `pb_stub.cc`, PYBIND11_EMBEDDED_MODULE: only a stub has the C++ module built in.
    """
    is_stub = _STUB_ONLY in sys.builtin_module_names
    return not is_stub and hasattr(getattr(pb_utils, "Tensor", None), "from_dlpack")


def _check_shadow(pb_utils: ModuleType) -> None:
    """The server's folder comes last on sys.path, so an installed module of the same name wins."""
    if _is_stand_in(pb_utils):
        return
    loaded = Path(pb_utils.__file__ or "")
    copies = [
        found
        for folder in sys.path
        for found in (Path(folder, PB_UTILS + ".py"), Path(folder, PB_UTILS, "__init__.py"))
        if found.is_file()
    ]
    if copies and copies[-1].resolve() == loaded.resolve() and hasattr(pb_utils, "Tensor"):
        return
    owners = importlib.metadata.packages_distributions().get(PB_UTILS, [])
    remedy = f"pip uninstall {' '.join(owners)}" if owners else f"delete or rename {loaded}"
    raise ConfigError.of(
        f"module {PB_UTILS}",
        expected=f"the server's own, {copies[-1]}" if len(copies) > 1 else "the server's own",
        got=str(loaded),
        remedy=remedy + ", which takes the place of the server's module",
    )


class TritonLogHandler(logging.Handler):
    """Writes log records to Triton's log, at the level that corresponds."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record over. Costs a call to the server's process, about 70 us."""
        logger = getattr(sys.modules.get(PB_UTILS), "Logger", None)
        if logger is None:
            return
        try:
            text = self.format(record)
            if record.levelno >= logging.ERROR:
                logger.log_error(text)
            elif record.levelno >= logging.WARNING:
                logger.log_warn(text)
            elif record.levelno >= logging.INFO:
                logger.log_info(text)
            else:
                logger.log_verbose(text)
        except Exception:
            self.handleError(record)


def open_logger(instance_name: str) -> logging.Logger:
    """Give the instance's logger: onto Triton's log inside a server, plain `logging` elsewhere."""
    logger = logging.getLogger(f"kindaware.{instance_name}")
    is_served = find_pb_utils() is not None
    for handler in [one for one in logger.handlers if isinstance(one, TritonLogHandler)]:
        logger.removeHandler(handler)
    if is_served:
        logger.addHandler(TritonLogHandler())
        logger.setLevel(logging.INFO)
    logger.propagate = not is_served
    return logger


class Bridge:
    """Between Triton's objects and the library's.

    Args:
        pb_utils: Triton's module, or a stand-in.
        spec: the model.
        runtime: the device, for outputs that stay there.
        reads_info: read what requests say about themselves too.
    """

    def __init__(
        self, pb_utils: ModuleType, spec: ModelSpec, runtime: Runtime, *, reads_info: bool = False
    ) -> None:
        self._pb_utils = pb_utils
        self._runtime = runtime
        self._batches = spec.batches
        self._reads_info = reads_info
        self._no_numpy = {tensor.name for tensor in spec.inputs if tensor.dtype.numpy is None}
        self._no_torch = {tensor.name for tensor in spec.inputs if tensor.dtype.torch is None}
        self._may_be_on_gpu = spec.parameters.get("FORCE_CPU_ONLY_INPUT_TENSORS") == "no"
        self._names = [tensor.name for tensor in spec.outputs]
        self._model = spec.name

    @property
    def is_stand_in(self) -> bool:
        """Whether there is no server behind it."""
        return _is_stand_in(self._pb_utils)

    def load_model(self, name: str, config: str) -> None:
        """Have the server load a model with a configuration, anew if it is loaded.

        Sync:
            Until the model is loaded, with the GIL held. Source: measured on tritonserver 2.51.0.
        """
        self._pb_utils.load_model(name, config=config)

    def read(self, requests: Sequence[Any], *, asks_for_cancelled: bool = False) -> list[Request | Failure]:
        """Read the requests of one call; the tensors are views of memory that Triton owns.

        Args:
            requests: as Triton hands them over.
            asks_for_cancelled: ask for each whether it was cancelled, and read it only if not. Costs a call
                to the server's process each, about 70 us.

        Raises:
            Exception: the device has failed; found out where a tensor lies on it.

        Sync:
            Nothing. Triton has finished writing inputs before it calls `execute`.
        """
        arrivals: list[Request | Failure] = []
        for request in requests:  # as a comprehension it would let go of tensors while an error is under way
            if asks_for_cancelled and request.is_cancelled():
                arrivals.append(self._cancelled(request))
            else:
                arrivals.append(self._read(request))
        return arrivals

    def _cancelled(self, request: Any) -> Failure:
        text = message(
            f"model {self._model!r} request {request.request_id()!r}",
            expected="a client that waits for the answer",
            got="a request that was cancelled",
            remedy="send it again if it is wanted after all",
        )
        return Failure(text, "CANCELLED")

    def _read(self, request: Any) -> Request | Failure:
        try:
            inputs = self._inputs(request)
        except Exception as error:  # of pb_utils, for this request only
            if self._runtime.is_fault(error):
                raise
            return self._unreadable(request, describe(error), "INTERNAL")
        if not self._batches:
            info = self._info(request, None) if self._reads_info else None
            return Request(request.request_id(), inputs, None, info)
        sizes = {name: len(tensor) if tensor.ndim else 0 for name, tensor in inputs.items()}
        if len(set(sizes.values())) != 1:
            return self._unreadable(request, f"rows {sizes}" if sizes else "no inputs", "INVALID_ARG")
        rows = next(iter(sizes.values()))
        info = self._info(request, rows) if self._reads_info else None
        return Request(request.request_id(), inputs, rows, info)

    def _info(self, request: Any, rows: int | None) -> RequestInfo:
        return RequestInfo(
            id=request.request_id(),
            rows=rows,
            parameters=json.loads(request.parameters()),
            timeout=request.timeout(),
            correlation_id=request.correlation_id(),
            flags=request.flags(),
            requested_outputs=frozenset(request.requested_output_names()),
        )

    def _inputs(self, request: Any) -> dict[str, Value]:
        inputs: dict[str, Value] = {}
        for tensor in request.inputs():
            name = tensor.name()
            # A view of the numpy array that the stub has made already; DLPack would try and fail first.
            if name in self._no_torch:
                inputs[name] = tensor.as_numpy()
            elif name in self._no_numpy or (self._may_be_on_gpu and not tensor.is_cpu()):
                inputs[name] = torch.utils.dlpack.from_dlpack(tensor)
            else:
                inputs[name] = torch.from_numpy(tensor.as_numpy())
        return inputs

    def _unreadable(self, request: Any, got: str, code: str) -> Failure:
        text = message(
            f"model {self._model!r} request {request.request_id()!r}",
            expected="inputs that can be read, all with the same number of rows",
            got=got,
            remedy="correct the request's inputs",
        )
        return Failure(text, code)

    def respond(self, requests: Sequence[Any], outcomes: Sequence[Outcome]) -> list[Any]:
        """Build one response per request, in order, with the outputs that the request asked for.

        Raises:
            Exception: the device has failed; found out where a tensor lies on it.
        """
        return [self._respond(request, outcome) for request, outcome in zip(requests, outcomes, strict=True)]

    def _respond(self, request: Any, outcome: Outcome) -> Any:
        if not isinstance(outcome, Failure):
            try:
                return self._answer(request, outcome)
            except Exception as error:  # of pb_utils, for this request only
                if self._runtime.is_fault(error):
                    raise
                outcome = Failure(f"model {self._model!r}: response not built, {describe(error)}", "INTERNAL")
        # pybind11 takes no text that isn't UTF-8, and the client's ends at a NUL.
        text = outcome.text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
        triton_error = self._pb_utils.TritonError
        code = getattr(triton_error, outcome.code)
        return self._pb_utils.InferenceResponse(error=triton_error(text, code))

    def _answer(self, request: Any, outputs: Any) -> Any:
        requested = request.requested_output_names()
        return self._pb_utils.InferenceResponse(
            [self._tensor(name, outputs[name]) for name in self._names if name in requested]
        )

    def _tensor(self, name: str, tensor: Value) -> Any:
        """Wrap contiguous memory. On the CPU numpy is taken without a copy, and DLPack hides one.

        BYTES are copied into Triton's form at once.
        A tensor on a GPU goes as an object, never as a capsule, with the stream that filled it current: the
        stub then waits for that stream, and for a capsule it does not.
        Source: python_backend `pb_tensor.cc`, PbTensor::FromDLPack.
        """
        if not isinstance(tensor, torch.Tensor):
            return self._pb_utils.Tensor(name, tensor)
        if tensor.device.type != "cpu":
            with self._runtime.scope():
                return self._pb_utils.Tensor.from_dlpack(name, tensor)
        if tensor.dtype is torch.bfloat16:
            return self._pb_utils.Tensor.from_dlpack(name, tensor)
        return self._pb_utils.Tensor(name, tensor.numpy())


def require_pb_utils(what: str) -> ModuleType:
    """Give Triton's module.

    Raises:
        KindAwareError: this process is neither a stub nor a test with a stand-in.
    """
    pb_utils = find_pb_utils()
    if pb_utils is None:
        raise KindAwareError(
            message(
                what,
                expected="to be called by Triton's Python backend",
                got=f"a process without {PB_UTILS}",
                remedy="serve it with 'kindaware serve', or test it with kindaware.testing.ModelHarness",
            )
        )
    return pb_utils
