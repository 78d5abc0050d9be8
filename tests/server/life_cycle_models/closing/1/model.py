"""Says that it is not ready, and when it ends."""

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, X):
        return 2 * X

    def is_ready(self):
        self.logger.info("%s was asked", self.args.instance_name)
        return False

    def unload(self):
        self.logger.info("%s unloads", self.args.instance_name)
        if self.args.instance_name.endswith("_1"):
            raise OSError("can't be closed")
