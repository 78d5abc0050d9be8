"""Gives X back; the log says what the request says about itself."""

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def preprocess(self, inputs, requests):
        [one] = requests
        self.logger.info("echo of %s: timeout %s, parameters %s", one.id, one.timeout, dict(one.parameters))
        return inputs

    def forward(self, X):
        return X
