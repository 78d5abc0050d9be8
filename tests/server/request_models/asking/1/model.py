"""Gives back what a request says about itself."""

import json

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def preprocess(self, inputs, requests):
        (request,) = requests
        if "tell early" in request.parameters:
            request.response_parameters["told"] = request.parameters["tell early"]
        return {"X": inputs["X"] * request.parameters.get("scale", 1.0)}

    def forward(self, X, requests):
        said = []
        for one in requests:
            known = [one.id, one.parameters, one.timeout, one.correlation_id, one.is_start, one.is_end]
            if "tell" in one.parameters:
                one.response_parameters["told"] = one.parameters["tell"]
            said += [[json.dumps([*known, one.rows, sorted(one.requested_outputs)])]] * one.rows
        return said, X
