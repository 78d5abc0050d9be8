import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    async def execute(self, requests):
        return await asyncio.gather(*map(self.answer, requests))

    async def answer(self, request):
        name = pb_utils.get_input_tensor_by_name(request, "MODEL_NAME").as_numpy()[0].decode()
        counts = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        calls = [
            pb_utils.InferenceRequest(
                model_name=name,
                requested_output_names=["OUT"],
                inputs=[pb_utils.Tensor("IN", np.array([count], np.int32))],
            )
            for count in counts
        ]
        streams = await asyncio.gather(*(call.async_exec(decoupled=True) for call in calls))
        sums = [self.add_up(list(stream)) for stream in streams]
        return pb_utils.InferenceResponse([pb_utils.Tensor("SUM", np.array(sums, np.int32))])

    def add_up(self, responses):
        failed = [response.error().message() for response in responses if response.has_error()]
        if failed:
            raise pb_utils.TritonModelException(failed[0])
        tensors = [pb_utils.get_output_tensor_by_name(response, "OUT") for response in responses]
        return sum(tensor.as_numpy()[0] for tensor in tensors if tensor is not None)
