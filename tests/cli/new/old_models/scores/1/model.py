import json

import torch
import triton_python_backend_utils as pb_utils
from torch import nn
from torch.utils.dlpack import from_dlpack, to_dlpack


class Net(nn.Module):
    """Two layers."""

    def __init__(self, hidden):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3))

    def forward(self, x):
        return self.layers(x)  # [rows, 3]


class TritonPythonModel:
    def initialize(self, args):
        self.logger = pb_utils.Logger
        self.model_config = json.loads(args["model_config"])
        hidden = int(self.model_config["parameters"]["hidden"]["string_value"])

        # The instance's device
        if args["model_instance_kind"] == "GPU":
            self.device = torch.device(f"cuda:{args['model_instance_device_id']}")
        else:
            self.device = torch.device("cpu")

        # Stands for reading weights
        torch.manual_seed(0)
        self.model = Net(hidden).to(self.device)
        self.model.eval()
        self.logger.log_info(f"{args['model_name']} is there")

    def execute(self, requests):
        responses = []
        with torch.no_grad():
            for request in requests:
                features = pb_utils.get_input_tensor_by_name(request, "FEATURES")
                x = from_dlpack(features.to_dlpack()).to(self.device)

                if torch.isnan(x).any():
                    error = pb_utils.TritonError(
                        "FEATURES has values that are no numbers", pb_utils.TritonError.INVALID_ARG
                    )
                    responses.append(pb_utils.InferenceResponse(output_tensors=[], error=error))
                    continue

                # Probabilities
                scores = torch.softmax(self.model(x), dim=1)
                output = pb_utils.Tensor.from_dlpack("SCORES", to_dlpack(scores.cpu()))
                responses.append(pb_utils.InferenceResponse([output]))
        return responses

    def finalize(self):
        self.model = None
