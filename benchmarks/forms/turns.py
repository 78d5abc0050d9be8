"""Three forms of one network in one stub: calls of `execute` are answered by one after the other, and timed.

They share the network, the threads and the requests, so what differs is what each does around its forward.
The files of the forms lie beside this one, in `forms`.
"""

import importlib
import json
import random
import time
from pathlib import Path


class TritonPythonModel:
    """Writes the times when it is unloaded: in one round each form answers once, in random order."""

    def initialize(self, args):
        """Load the forms; all compute with the network of the last one, `kindaware`."""
        parameters = json.loads(args["model_config"])["parameters"]
        self.file = Path(parameters["times_file"]["string_value"])
        self.forms = {}
        for name in parameters["forms"]["string_value"].split(","):
            self.forms[name] = importlib.import_module(f"forms.{name}").TritonPythonModel()
            self.forms[name].initialize(args)
        for name, form in self.forms.items():
            if name != "kindaware":
                form.net = self.forms["kindaware"].model
        self.rounds = []
        self.left = []

    def execute(self, requests):
        """Let the next form answer."""
        if not self.left:
            self.left = random.sample(list(self.forms), len(self.forms))
            self.rounds.append({})
        name = self.left.pop()
        started = time.perf_counter_ns()
        responses = self.forms[name].execute(requests)
        self.rounds[-1][name] = (time.perf_counter_ns() - started) / 1e3
        return responses

    def finalize(self):
        """Write the whole rounds, microseconds."""
        whole = [one for one in self.rounds if len(one) == len(self.forms)]
        self.file.write_text(json.dumps(whole))
        self.forms["kindaware"].finalize()
