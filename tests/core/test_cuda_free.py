"""A CPU instance leaves CUDA alone; importing the library imports torch, numpy and itself."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import kindaware

SOURCE = Path(kindaware.__file__).parent
# What runs in the process of a model: all but the server's own process, the test kit and the command.
CORE = [path for path in sorted(SOURCE.glob("_*/**/*.py")) if path.parts[len(SOURCE.parts)] != "_server"]
CORE += sorted(SOURCE.glob("_*.py"))

CPU_INSTANCE = """
import sys

import torch

sys.path.insert(0, sys.argv[1])
from core_kit import Doubler, start

def refuse(*_, **__):
    raise AssertionError("CUDA was touched")

for name in ("init", "_lazy_init", "device_count", "is_available", "set_device", "current_device", "Stream"):
    setattr(torch.cuda, name, refuse)
model = start(Doubler)
assert model.cuda_stream is None
assert torch.equal(model.forward(torch.ones(2, 4)), torch.full((2, 4), 2.0))
model.finalize()
assert not torch.cuda.is_initialized()
print("untouched")
"""


def test_cpu_instance_never_touches_cuda():
    command = [sys.executable, "-c", CPU_INSTANCE, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("untouched\n", 0), done.stderr


def imported_by(statement):
    """The modules that a fresh interpreter imports for a statement."""
    command = [sys.executable, "-X", "importtime", "-c", statement]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}


def test_import_costs_torch_and_numpy_and_nothing_else():
    further = imported_by("import torch, numpy, kindaware._model")
    further -= imported_by("import torch, numpy")
    assert {"kindaware", "kindaware._model"} <= further
    foreign = {name for name in further if name.split(".")[0] not in {*sys.stdlib_module_names, "kindaware"}}
    assert foreign == set()
    assert {name for name in further if name.startswith(("kindaware.testing", "kindaware.cli"))} == set()


def test_the_command_answers_before_torch_is_imported():
    assert not {"torch", "numpy", "rich"} & imported_by("import kindaware.cli._app")


def test_only_one_module_names_tritons_module():
    assert [path for path in CORE if "triton_python_backend_utils" in path.read_text()] == [
        SOURCE / "_triton" / "module.py"
    ]


def test_only_the_runtime_calls_torch_cuda():
    calling = {path for path in CORE if re.search(r"torch\.cuda\.\w+\(", strip_text(path.read_text()))}
    assert calling == {SOURCE / "_device" / "runtime.py"}


def strip_text(source):
    """Source without its docstrings and other texts."""
    return ast.unparse(_NoText().visit(ast.parse(source)))


class _NoText(ast.NodeTransformer):
    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node):
        return ast.Constant("")
