import json

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        names = [output["name"] for output in config["output"]]
        types = [pb_utils.get_output_config_by_name(config, name)["data_type"] for name in names]
        self.outputs = dict(zip(names, map(pb_utils.triton_string_to_numpy, types), strict=True))

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        a = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        b = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
        results = zip(self.outputs.items(), (a + b, a - b), strict=True)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, result.astype(dtype)) for (name, dtype), result in results]
        )
