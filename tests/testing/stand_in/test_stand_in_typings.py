"""The stub for type checkers says what the stand-in, and so the server, does."""

import ast
import inspect
import subprocess
import sys

from stand_in_kit import open_host

from kindaware.testing.stand_in import NEWEST, TYPINGS

STUB = TYPINGS / "triton_python_backend_utils.pyi"
C_STUB = TYPINGS / "c_python_backend_utils.pyi"
MODEL = """
import c_python_backend_utils as c_pb_utils
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: "list[pb_utils.InferenceRequest]") -> "list[pb_utils.InferenceResponse]":
        inputs = requests[0].inputs()
        request = pb_utils.InferenceRequest(inputs=inputs, requested_output_names=["Y"], model_name="m")
        pb_utils.InferenceRequest("id", 1, inputs, ["Y"], "m", timeout=5)
        reveal_type(request.exec())
        reveal_type(request.exec(decoupled=True))
        reveal_type(c_pb_utils.shared_memory.free_memory())
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.zeros(2))], pb_utils.TritonError("x", 1))]
"""


def names_of(body):
    """Give the public names that a stub's body defines."""
    found = set()
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname for alias in node.names if alias.asname}
    return {name for name in found if not name.startswith("_")}


def test_typings_have_every_name_of_the_newest_module_and_no_other():
    _, pb, _ = open_host(server_version=NEWEST)
    tree = ast.parse(STUB.read_text())
    assert names_of(tree.body) == {name for name in vars(pb) if not name.startswith("__")}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.body:
            cls = getattr(pb, node.name)
            public = {name for name in dir(cls) if not name.startswith("_")} - set(dir(Exception))
            assert names_of(node.body) == public - {"triton_dtype"}, node.name


def test_typings_have_every_name_of_the_c_module_and_no_other(c_module):
    body = ast.parse(C_STUB.read_text()).body
    assert names_of(body) == {name for name in vars(c_module) if not name.startswith("__")}


def test_typings_name_arguments_as_the_stand_in_does():
    _, pb, _ = open_host(server_version=NEWEST)
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not hasattr(getattr(pb, node.name), "func"):
            given = list(inspect.signature(getattr(pb, node.name)).parameters)
            assert [arg.arg for arg in node.args.args] == given, node.name


def test_typings_serve_mypy(tmp_path):
    model = tmp_path / "model.py"
    model.write_text(MODEL)
    config = tmp_path / "mypy.ini"
    config.write_text(f"[mypy]\nmypy_path = {TYPINGS}\nstrict = True\ncache_dir = {tmp_path / 'cache'}\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", config, model],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 'Revealed type is "triton_python_backend_utils.InferenceResponse"' in done.stdout
    assert 'Revealed type is "triton_python_backend_utils._ResponseIterator"' in done.stdout
    assert 'Revealed type is "int"' in done.stdout or 'Revealed type is "builtins.int"' in done.stdout
    errors = [line for line in done.stdout.splitlines() if " error: " in line]
    assert len(errors) == 1, done.stdout
    assert 'has incompatible type "int"; expected "_ErrorCode"' in errors[0]
