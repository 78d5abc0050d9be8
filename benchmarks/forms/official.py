"""What one copies first: a forward per request, as the official example of instance kinds does it."""

import json

import torch
import triton_python_backend_utils as pb_utils
from networks import INPUT, NETWORKS, OUTPUT


class TritonPythonModel:
    """One forward per request, PyTorch's default threads."""

    def initialize(self, args):
        """Make the network on the device of the instance's kind."""
        config = json.loads(args["model_config"])
        self.device = "cuda" if args["model_instance_kind"] == "GPU" else "cpu"
        self.net = NETWORKS[config["parameters"]["network"]["string_value"]].build().to(self.device)

    def execute(self, requests):
        """Answer the requests one by one."""
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, INPUT)
            with torch.no_grad():
                result = self.net(torch.as_tensor(tensor.as_numpy(), device=self.device))
            answer = pb_utils.Tensor.from_dlpack(OUTPUT, torch.utils.dlpack.to_dlpack(result))
            responses.append(pb_utils.InferenceResponse([answer]))
        return responses
