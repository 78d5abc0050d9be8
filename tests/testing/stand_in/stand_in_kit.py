"""A host that records, and short ways to requests and errors."""

from collections.abc import Iterable

import numpy as np

from kindaware.testing.stand_in import (
    Answer,
    BlsCall,
    Host,
    RefusalError,
    WireTensor,
    attach_classes,
    new_c_module,
    new_module,
    new_server_request,
    state_of,
)


class RecordingHost(Host):
    """Keeps what it is told; a test sets what it answers."""

    def __init__(self, **settings) -> None:
        super().__init__("probe", model_dir="/models/probe/1", **settings)
        self.lines: list[tuple[str, str, str, int]] = []
        self.sent: list[Answer] = []
        self.calls: list[BlsCall] = []
        self.cancelled_calls: list[BlsCall] = []
        self.answers: list[Answer] = [Answer()]
        self.refusal: str | None = None
        self.cancelled = False
        self.num_questions = 0
        self.controls: list[tuple] = []
        self.ready: bool | None = None

    def log(self, level, text, filename, line):
        self.lines.append((level, text, filename, line))

    def is_cancelled(self, request):
        self.num_questions += 1
        return self.cancelled

    def on_send(self, request, answer):
        self.sent.append(answer)

    def run_bls(self, call) -> Iterable[Answer]:
        self.calls.append(call)
        if self.refusal is not None:
            raise RefusalError(self.refusal)
        return iter(self.answers)

    def cancel_bls(self, call):
        self.cancelled_calls.append(call)

    def load_model(self, *args):
        self._control("load", *args)

    def unload_model(self, *args):
        self._control("unload", *args)

    def is_model_ready(self, *args):
        self._control("ready", *args)
        return self.ready

    def _control(self, *args):
        self.controls.append(args)
        if self.refusal is not None:
            raise RefusalError(self.refusal)


def open_host(**settings):
    """Give a host in `execute`, its module, and `c_python_backend_utils`."""
    host = RecordingHost(**settings)
    module, c_module = new_module(host), new_c_module(host)
    attach_classes(module, c_module, host)
    host.phase = "execute"
    return host, module, c_module


def new_request(host, *names, **settings):
    """Make a request with one input X, for the outputs of these names."""
    settings.setdefault("inputs", [WireTensor.of("X", np.arange(3, dtype=np.float32))])
    return new_server_request(host, requested_output_names=names or ["Y"], **settings)


def new_response(pb, *names, value=1.0):
    return pb.InferenceResponse([pb.Tensor(name, np.array([value])) for name in names or ["Y"]])


def sent_names(request):
    return [[output.name for output in answer.outputs] for answer in state_of(request).sent]
