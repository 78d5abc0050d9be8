"""Has no config.pbtxt: what the class declares is all that the server knows."""

from torch import nn

from kindaware import KindAwareModel, TensorSpec


class TritonPythonModel(KindAwareModel):
    inputs = [TensorSpec("X", "FP32", [4]), TensorSpec("Y", "FP32", [4])]
    outputs = [TensorSpec("SUM", "FP32", [4])]
    max_batch_size = 16

    def load(self):
        self.nets = [nn.Dropout(p=1.0)]  # gives zeros in train mode, its input in eval mode

    def forward(self, X, Y):
        return self.nets[0](X + Y)
