import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        name = pb_utils.get_input_tensor_by_name(request, "MODEL_NAME").as_numpy()[0].decode()
        counts = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        sums = np.array([self.add_up(name, count) for count in counts], np.int32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("SUM", sums)])

    def add_up(self, name, count):
        call = pb_utils.InferenceRequest(
            model_name=name,
            requested_output_names=["OUT"],
            inputs=[pb_utils.Tensor("IN", np.array([count], np.int32))],
        )
        total = 0
        for response in call.exec(decoupled=True):
            if response.has_error():
                raise pb_utils.TritonModelException(response.error().message())
            out = pb_utils.get_output_tensor_by_name(response, "OUT")
            total += 0 if out is None else out.as_numpy()[0]  # without one it is the end of the stream
        return total
