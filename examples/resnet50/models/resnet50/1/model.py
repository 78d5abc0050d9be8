import socket

import torch
from torchvision.models import ResNet50_Weights, resnet50

from kindaware import ConfigError, KindAwareModel

PRETRAINED = ResNet50_Weights.IMAGENET1K_V2


class TritonPythonModel(KindAwareModel):
    def load(self):
        weights = self.parameters.get("weights", PRETRAINED.name)
        torch.manual_seed(0)  # so that "random" means the same numbers everywhere
        net = resnet50()
        if weights == "random":
            return net
        timeout, _ = socket.getdefaulttimeout(), socket.setdefaulttimeout(30)
        try:
            if weights == PRETRAINED.name:
                state = PRETRAINED.get_state_dict(progress=False, check_hash=True, weights_only=True)
            else:
                state = torch.load(weights, map_location="cpu", weights_only=True)
            net.load_state_dict(state)
        except Exception as error:
            raise ConfigError.of(
                f"resnet50's weights {weights!r}",
                expected="a download that works, a state_dict file of torchvision's resnet50, or random",
                got=f"{error!r:.200}",
                remedy=f"if offline, fetch {PRETRAINED.url} elsewhere and set parameter weights to its path",
            ) from error
        finally:
            socket.setdefaulttimeout(timeout)
        return net

    def forward(self, INPUT):
        return self.model(INPUT)
