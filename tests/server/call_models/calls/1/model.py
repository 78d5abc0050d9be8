"""Calls other models, each in the way that HOW names."""

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    warmup = "off"

    def load(self):
        return None

    def forward(self, X, HOW):
        return getattr(self, "_" + HOW[0, 0].decode())(X)

    def _plain(self, X):
        return self.call("echo", X=X + 1)["Y"]

    def _text(self, X):
        text = [["ä\0", b"\xff\0"]] * len(X)
        returned = self.call("echo_text", X=text)["Y"]
        assert returned.tolist() == [["ä\0".encode(), b"\xff\0"]] * len(X)
        return X

    def _bf16(self, X):
        rows = X.bfloat16().repeat(2, 1)[::2]
        returned = self.call("echo_bf16", X=rows)["Y"]
        assert returned.dtype is torch.bfloat16
        return returned.float()

    def _parameters(self, X):
        return self.call("echo", X=X, parameters={"k": 3}, request_id="given", timeout_microseconds=77)["Y"]

    def _nobody(self, X):
        return self.call("nobody", X=X)["Y"]

    def _nobody_stream(self, X):
        return next(self.call_stream("nobody", X=X))["Y"]

    def _version(self, X):
        return self.call("echo", X=X, model_version=9)["Y"]

    def _name(self, X):
        return self.call("echo", Z=X)["Y"]

    def _type(self, X):
        return self.call("echo", X=X.double())["Y"]

    def _output(self, X):
        return self.call("echo", X=X, requested_outputs=["Z"])["Y"]

    def _refused(self, X):
        return self.call("refuses", X=X)["Y"]

    def _decoupled(self, X):
        return self.call("count", X=X)["Y"]

    def _queued(self, X):
        return self.call("queued", X=X)["Y"]

    def _count(self, X):
        got = list(self.call_stream("count", X=X))
        return X + len(got) - (got[-1]["Y"] - X if got else -1) - 1

    def _abandon(self, X):
        for _ in range(20):
            stream = self.call_stream("count", X=X)
            next(stream)
        return X

    def _count_error(self, X):
        return next(self.call_stream("count", X=-X))["Y"]
