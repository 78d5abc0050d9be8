"""The configurations that a real server loads and refuses, and how they become a repository."""

from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"
REFUSED = Path(__file__).parent / "refused"

RECORDER = """
import json, os, pathlib

import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        name = "args-" + args["model_version"] + "-" + args["model_instance_name"]
        pathlib.Path(args["model_repository"], name + ".json").write_text(json.dumps(args))

    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""


def write_repository(folder, configs):
    """Write one model per configuration; those about versions have three."""
    for name, text in configs.items():
        for version in "123" if name.endswith("versions") else "1":
            place = folder / name / version
            place.mkdir(parents=True)
            (place / "model.py").write_text(RECORDER)
        (folder / name / "config.pbtxt").write_text(text)
