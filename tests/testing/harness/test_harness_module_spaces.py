"""Whose modules an import finds: instances that run at once, and folders that a model adds to the path."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from harness_kit import write_model

from kindaware.testing import ModelHarness

LAZY = """
import time

import numpy as np

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            time.sleep(0.01)
            import beside
            import triton_python_backend_utils as pb_utils
            beside.TOTAL.append(1)
            answers.append(pb_utils.InferenceResponse(
                [pb_utils.Tensor("Y", np.array([len(beside.TOTAL)], np.float32))]))
        return answers
"""
ADDED = """
import sys

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.append({folder!r})
import kindaware_test_helper

class TritonPythonModel:
    def execute(self, requests):
        value = np.array([kindaware_test_helper.VALUE], np.float32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", value)]) for _ in requests]
"""


def ask(harness, **options):
    return harness.infer(X=np.ones(1, np.float32), **options).outputs["Y"].tolist()


def test_instances_in_threads_that_import_late_find_their_own_modules(tmp_path):
    place = write_model(tmp_path, "m", LAZY)
    (place / "beside.py").write_text("TOTAL = []\n")
    with ModelHarness(place, instances=3) as harness, ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, harness, instance=index % 3) for index in range(9)]
        found = [one.result() for one in asked]
    assert sorted(found) == [[1.0]] * 3 + [[2.0]] * 3 + [[3.0]] * 3
    assert "beside" not in sys.modules


def test_helpers_from_a_folder_that_the_model_adds_are_its_own(tmp_path):
    models = []
    for number in (1, 2):
        folder = tmp_path / f"lib{number}"
        folder.mkdir()
        (folder / "kindaware_test_helper.py").write_text(f"VALUE = {number}\n")
        models.append(write_model(tmp_path, f"m{number}", ADDED.format(folder=str(folder))))
    for number, place in enumerate(models, 1):
        with ModelHarness(place) as harness:
            assert ask(harness) == [number]
        assert "kindaware_test_helper" not in sys.modules
    with ModelHarness(models[0], models=[models[1]]) as harness:
        assert (ask(harness), ask(harness.model("m2"))) == ([1.0], [2.0])
