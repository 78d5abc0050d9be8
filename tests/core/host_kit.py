"""The stub process that the core's tests pretend to be in: the stand-in's host, and requests of arrays."""

from kindaware.testing.stand_in import (
    Host,
    WireTensor,
    attach_classes,
    new_c_module,
    new_module,
    new_server_request,
)

PB_UTILS = "triton_python_backend_utils"


class RecordingHost(Host):
    """The process of an instance of model 'm' that has finished its imports.

    Keeps what is logged and sent, and counts questions; `cancelled` is the answer to them. The send of the
    number `fails_at` fails.
    """

    def __init__(self, **settings):
        super().__init__("m", **settings)
        self.lines, self.sent, self.num_asked, self.cancelled, self.fails_at = [], [], 0, False, None
        self.pb_utils = new_module(self)
        attach_classes(self.pb_utils, new_c_module(self), self)
        self.pb_utils.Tensor = _contiguous(self.pb_utils.Tensor)
        self.phase = "execute"

    def log(self, level, text, filename, line):
        self.lines.append((level, text))

    def is_cancelled(self, request):
        self.num_asked += 1
        return self.cancelled

    def on_send(self, request, answer):
        if len(self.sent) == self.fails_at:
            self.fails_at = None
            raise RuntimeError("no shared memory")
        self.sent.append(answer)

    def request(self, request_id="r", *, requested=("Y",), **inputs):
        """A request as `execute` gets it, with these arrays."""
        wires = [WireTensor.of(name, array) for name, array in inputs.items()]
        return new_server_request(self, inputs=wires, request_id=request_id, requested_output_names=requested)


def _contiguous(tensor_class):
    """The class `Tensor` that refuses arrays of which the server's would make a copy."""

    class Tensor(tensor_class):
        __slots__ = ()

        def __init__(self, *args):
            assert args[1].flags.c_contiguous, "the server's would copy here"
            super().__init__(*args)

    return Tensor


def outputs_of(response):
    """The arrays of a response, in order."""
    return [tensor.as_numpy() for tensor in response.output_tensors()]


def names_of(response):
    """The names of a response's outputs."""
    return [tensor.name() for tensor in response.output_tensors()]


def failure_of(response):
    """Code and message of a response, or None."""
    return (response.error().code().name, response.error().message()) if response.has_error() else None


def array_of(request):
    """The array of a request's first input, which is the same object each time."""
    return request.inputs()[0].as_numpy()
