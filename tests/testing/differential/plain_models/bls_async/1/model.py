import asyncio

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    async def execute(self, requests):
        return await asyncio.gather(*map(self.answer, requests))

    async def answer(self, request):
        name = pb_utils.get_input_tensor_by_name(request, "MODEL_NAME").as_numpy()[0].decode()
        inputs = [pb_utils.get_input_tensor_by_name(request, one) for one in ("INPUT0", "INPUT1")]
        calls = [
            pb_utils.InferenceRequest(model_name=name, requested_output_names=[output], inputs=inputs)
            for output in ("OUTPUT0", "OUTPUT1")
        ]
        responses = await asyncio.gather(*(call.async_exec() for call in calls))
        for response in responses:
            if response.has_error():
                return pb_utils.InferenceResponse(error=response.error())
        return pb_utils.InferenceResponse([response.output_tensors()[0] for response in responses])
