"""What no test of this folder compares, and why not."""

# Kind, and the reason. A server that crashes takes all other tests with it; a client that waits forever has
# nothing to compare. The harness raises TritonContractError there, which the harness's own tests show.
NOT_COMPARED = {
    "is_cancelled() after FINAL": ("crash", "the server reads a request that is already freed"),
    "is_cancelled() on a request that a model built": ("crash", "the server aborts and answers nothing"),
    "one InferenceResponse object for two requests": ("crash", "memory is corrupted; clients get garbage"),
    "the list of requests is changed": ("crash", "the stub uses the list for its own bookkeeping"),
    "exception after FINAL, not decoupled": ("crash", "the response factory is freed twice, some time later"),
    "a DLPack capsule is used twice": ("crash", "the stub reads memory that is already freed"),
    "a numpy array passed to from_dlpack": ("crash", "numpy 1.26's destructor recurses in the stub"),
    "strided first dimension passed to from_dlpack": ("corruption", "the server sends arbitrary memory"),
    "failing calls to metrics and load_model": ("crash", "2.51 sometimes frees the message too early"),
    "warm-up requests that fail, or too many of them": (
        "crash",
        "the server rejects the model or exits, at random",
    ),
    "os._exit in a model": ("crash", "in a harness it would end the test's own process"),
    "numpy 2 in the stub": ("corruption", "2.51 returns wrong arrays; the server isn't started with it"),
    "None without a sent response": ("hang", "the client gets no answer"),
    "a response without FINAL": ("hang", "the client gets no answer; or no end of the stream, if decoupled"),
    "exception in a decoupled coroutine": ("hang", "it is only logged, and no FINAL is sent"),
    "RESCHEDULE without iterative sequences": ("hang", "the release fails, and nobody answers"),
    "RESCHEDULE of a request with the flag END": ("hang", "its sequence is over, so it never runs again"),
    "inputs in a batch slot whose sequence has sent nothing": (
        "harness",
        "the server sends arbitrary memory; the harness sets every byte to `0xFF`",
    ),
    "zero rows if max_batch_size is not 0": ("hang", "the server accepts the request and never answers"),
    "metrics created while a model is imported or completed": ("hang", "the stub asks, and nobody answers"),
    "a model that calls itself with one instance": ("hang", "it waits for itself"),
    "load_model of the model itself in initialize": ("hang", "the load waits for its own end"),
    "load_model and is_model_ready while a server is starting": (
        "harness",
        "the server says 'Server not ready'; a harness is ready at once, and logs a warning",
    ),
    "KeyboardInterrupt in execute": ("harness", "it is passed on, so that Ctrl-C ends a test"),
    "order of outputs on the wire": ("harness", "Result.outputs is a dict; both sides are sorted by name"),
    "several outputs with one name": ("harness", "Result.outputs is a dict and keeps the last one"),
    "code of a stream's error": ("server", "gRPC streams carry only the text, which is compared"),
    "addresses in messages": ("text", "they differ from run to run"),
    "frames and path of triton_python_backend_utils.py": ("text", "the harness has no such file"),
    "importlib's frames": ("text", "they depend on what imports the module"),
    "pybind11's list of signatures": ("text", "it has mangled names that depend on the version of pybind11"),
    "async_event_future_done_callback of c_python_backend_utils": (
        "harness",
        "used by the stub for its event loop; no model calls it",
    ),
    "CPython messages with a class name": (
        "text",
        "C++ classes include their module, Python's don't: object of type 'c_python_backend_utils.Tensor'",
    ),
    "GPU tensors": ("host", "the test server runs on hosts without a GPU"),
    "servers after 24.10": ("host", "the wheel has 2.51; later rules were read from the sources"),
}
