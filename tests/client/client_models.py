"""Models without torch: one sends its inputs back, one batches, one streams, one waits."""

HEAD = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils

def get(request, name="X"):
    return pb_utils.get_input_tensor_by_name(request, name)

class TritonPythonModel:
    def execute(self, requests):
        return [self.one(request) for request in requests]
"""
INTEGERS = [f"{sign}INT{bits}" for sign in ("U", "") for bits in (8, 16, 32, 64)]
DATATYPES = ["BOOL", *INTEGERS, "FP16", "FP32", "FP64", "STRING"]
ECHO = """
    def one(self, request):
        tensors = [pb_utils.Tensor("OUT_" + one.name()[3:], one.as_numpy()) for one in request.inputs()]
        return pb_utils.InferenceResponse(tensors)
"""
ADDS = """
    def one(self, request):
        x = get(request).as_numpy()
        if (x < 0).any():
            error = pb_utils.TritonError("negative", pb_utils.TritonError.NOT_FOUND)
            return pb_utils.InferenceResponse(error=error)
        told = f"{request.request_id()} {request.correlation_id()} {request.flags()} {request.parameters()}"
        texts = np.array([[told]] * len(x), dtype=object)
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", x + 1), pb_utils.Tensor("T", texts)])
"""
COUNTS = """
    def execute(self, requests):
        for request in requests:
            sender, x = request.get_response_sender(), get(request).as_numpy()
            for number in range(int(x[0, 0])):
                time.sleep(float(x[0, 1]))
                if sender.is_cancelled():
                    break
                if number == 5:
                    sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("five")))
                    break
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x * 0 + number)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
COUNTS_ON = """
    def execute(self, requests):
        for request in requests:
            told = np.array([[request.correlation_id(), request.flags()]], dtype=np.float32)
            sender = request.get_response_sender()
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("Y", told)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
CLASSIFIES = """
    def one(self, request):
        x = get(request, "INPUT").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", x.mean(axis=(2, 3)))])
"""
WAITS = """
    def one(self, request):
        time.sleep(float(get(request).as_numpy().max()))
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", get(request).as_numpy())])
"""
X = 'input { name: "X" data_type: TYPE_FP32 dims: 2 } output { name: "Y" data_type: TYPE_FP32 dims: 2 }'
CPU = 'backend: "python" instance_group { kind: KIND_CPU }'


MODELS = ("adds", "counts", "counts_on", "echo", "follows", "halves", "resnet50", "speaks", "waits")


def write_models(folder):
    tensors = " ".join(
        f'input {{ name: "IN_{one}" data_type: TYPE_{one} dims: [ -1 ] optional: true }} '
        f'output {{ name: "OUT_{one}" data_type: TYPE_{one} dims: [ -1 ] }}'
        for one in DATATYPES
    )
    told = 'output { name: "T" data_type: TYPE_STRING dims: 1 }'
    models = {
        "echo": (ECHO, f"{CPU} {tensors}"),
        "adds": (ADDS, f"{CPU} max_batch_size: 4 {X} {told}"),
        "counts": (COUNTS, f"{CPU} max_batch_size: 4 {X} model_transaction_policy {{ decoupled: true }}"),
        "counts_on": (
            COUNTS_ON,
            f"{CPU} max_batch_size: 4 {X} sequence_batching {{ }} "
            "model_transaction_policy { decoupled: true }",
        ),
        "resnet50": (
            CLASSIFIES,
            f'{CPU} max_batch_size: 4 input {{ name: "INPUT" data_type: TYPE_FP32 dims: [ 3, -1, -1 ] }} '
            'output { name: "OUTPUT" data_type: TYPE_FP32 dims: 3 }',
        ),
        "speaks": (
            ECHO,
            f"{CPU} max_batch_size: 4 "
            'input { name: "IN_TEXT" data_type: TYPE_STRING dims: 1 } '
            'input { name: "IN_IS_LOUD" data_type: TYPE_BOOL dims: 1 } '
            'input { name: "IN_IDS" data_type: TYPE_INT64 dims: -1 } '
            'output { name: "OUT_TEXT" data_type: TYPE_STRING dims: 1 } '
            'output { name: "OUT_IS_LOUD" data_type: TYPE_BOOL dims: 1 } '
            'output { name: "OUT_IDS" data_type: TYPE_INT64 dims: -1 }',
        ),
        "halves": (
            ECHO,
            f'{CPU} input {{ name: "IN_class" data_type: TYPE_FP16 dims: [ 2, 3 ] }} '
            'output { name: "OUT_class" data_type: TYPE_FP16 dims: [ 2, 3 ] }',
        ),
        "follows": (ADDS, f"{CPU} max_batch_size: 4 {X} {told} sequence_batching {{ }}"),
        "waits": (WAITS, f"{CPU} max_batch_size: 4 {X}"),
    }
    for name, (source, config) in models.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / "model.py").write_text(HEAD + source)
        (folder / name / "config.pbtxt").write_text(config)
    return folder
