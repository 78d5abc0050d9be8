"""What no test of this folder compares, and why not."""

# Kind, and the reason. A server that crashes takes all other tests with it; a client that waits for ever has
# nothing to compare. The harness raises TritonContractError there, which the harness's own tests show.
NOT_COMPARED = {
    "is_cancelled() after FINAL": ("crash", "the server reads a request that is freed already"),
    "is_cancelled() on a request that a model built": ("crash", "the server aborts: nothing to ask"),
    "one InferenceResponse object for two requests": ("crash", "memory is corrupted; clients get garbage"),
    "the list of requests is changed": ("crash", "the stub uses it for its own book-keeping"),
    "exception after FINAL, not decoupled": ("crash", "the response factory is freed twice, some time later"),
    "a DLPack capsule is used twice": ("crash", "the stub reads memory that is freed"),
    "a numpy array passed to from_dlpack": ("crash", "numpy 1.26's destructor recurses in the stub"),
    "strided first dimension passed to from_dlpack": ("corruption", "the server sends what lies in memory"),
    "failing calls of metrics and of load_model": ("crash", "2.51 frees the message early, by chance"),
    "warm-up requests that fail, or are too many": (
        "crash",
        "the server refuses the model, or ends, by chance",
    ),
    "os._exit in a model": ("crash", "it would end the test's own process in a harness"),
    "numpy 2 in the stub": ("corruption", "2.51 gives wrong arrays; the server is not started with it"),
    "None without a sent response": ("hang", "the client gets no answer"),
    "a response without FINAL": ("hang", "the client gets no answer, not decoupled, or no end, decoupled"),
    "exception in a decoupled coroutine": ("hang", "it is only logged, and no FINAL is sent"),
    "RESCHEDULE without iterative sequences": ("hang", "the release fails, and nobody answers"),
    "RESCHEDULE of a request with the flag END": ("hang", "its sequence is over, and it never comes back"),
    "inputs of a place of a batch whose sequence has sent nothing": (
        "harness",
        "the server sends what lies in memory; the harness every byte `0xFF`",
    ),
    "zero rows where max_batch_size is not 0": ("hang", "the server takes the request and never answers"),
    "metrics made while a model is imported or completed": ("hang", "the stub asks, and nobody answers"),
    "a model that calls itself with one instance": ("hang", "it waits for itself"),
    "load_model of the model itself in initialize": ("hang", "the load waits for its own end"),
    "load_model and is_model_ready while a server starts": (
        "harness",
        "the server says 'Server not ready'; a harness is ready at once, and its log warns",
    ),
    "KeyboardInterrupt in execute": ("harness", "it is passed on, so that Ctrl-C ends a test"),
    "order of outputs on the wire": ("harness", "Result.outputs is a dict; both sides are sorted by name"),
    "several outputs of one name": ("harness", "Result.outputs is a dict; the last one stays"),
    "code of a stream's error": ("server", "gRPC streams carry the text alone; it is compared, the code not"),
    "addresses in texts": ("text", "they differ from run to run"),
    "frames and place of triton_python_backend_utils.py": ("text", "the harness has no such file"),
    "importlib's frames": ("text", "they depend on who imports"),
    "pybind11's list of signatures": ("text", "it has mangled names that depend on pybind11's release"),
    "async_event_future_done_callback of c_python_backend_utils": (
        "harness",
        "the stub's own, for its event loop; no model calls it",
    ),
    "CPython's own texts with a class's name": (
        "text",
        "C++ classes have their module in it, Python's don't: object of type 'c_python_backend_utils.Tensor'",
    ),
    "GPU tensors": ("host", "the test server runs on hosts without GPU"),
    "servers after 24.10": ("host", "the wheel has 2.51; the later rules are read from the sources"),
}
