"""A CPU instance leaves CUDA alone; importing the library imports torch, numpy and itself."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kindaware

SOURCE = Path(kindaware.__file__).parent

ORDER = [
    "_errors",
    "_dtypes",
    "_request_info",
    "_bytes",
    "_values",
    "_args",
    "_sequence_spec",
    "_spec",
    "_settings",
    "_placement",
    "_threads",
    "_openmp",
    "_memory",
    "_counts",
    "_cancellation",
    "_caller",
    "_loop",
    "_runtime",
    "_device_map",
    "_device_placement",
    "_contract",
    "_auto_complete",
    "_hooks",
    "_modules",
    "_batch",
    "_staging",
    "_graphs",
    "_outputs",
    "_outcomes",
    "_padding",
    "_joining",
    "_device_pass",
    "_stream_pass",
    "_pipeline",
    "_warmup",
    "_metrics",
    "_pb_utils",
    "_bridge",
    "_response_parameters",
    "_sequence_state",
    "_sequences",
    "_sequence_hooks",
    "_call_stream",
    "_bls",
    "_responses",
    "_watch",
    "_stream",
    "_reload",
    "_direct",
    "_answering",
    "_model",
]

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
    further = imported_by("import torch, numpy, kindaware") - imported_by("import torch, numpy")
    assert {"kindaware", "kindaware._model"} <= further
    foreign = {name for name in further if name.split(".")[0] not in {*sys.stdlib_module_names, "kindaware"}}
    assert foreign == set()
    assert {name for name in further if name.startswith(("kindaware.testing", "kindaware.cli"))} == set()


def local_imports(path):
    """The library's modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == "kindaware"}


def test_layers_list_names_every_module_of_the_core():
    assert sorted(ORDER) == sorted(path.stem for path in SOURCE.glob("_*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", ORDER)
def test_module_imports_only_earlier_layers(module):
    allowed = {f"kindaware.{name}" for name in ORDER[: ORDER.index(module)]}
    modules = {".".join(name.split(".")[:2]) for name in local_imports(SOURCE / f"{module}.py")}
    assert modules <= allowed


def test_package_itself_imports_only_the_core():
    modules = {".".join(name.split(".")[:2]) for name in local_imports(SOURCE / "__init__.py")}
    assert modules <= {f"kindaware.{name}" for name in ORDER}


def test_only_one_module_names_tritons_module():
    naming = [path.stem for path in SOURCE.glob("*.py") if "triton_python_backend_utils" in path.read_text()]
    assert naming == ["_pb_utils"]


def test_only_the_runtime_calls_torch_cuda():
    calling = {
        path.stem
        for path in SOURCE.glob("*.py")
        if re.search(r"torch\.cuda\.\w+\(", strip_text(path.read_text()))
    }
    assert calling == {"_runtime"}


def strip_text(source):
    """Source without its docstrings and other texts."""
    return ast.unparse(_NoText().visit(ast.parse(source)))


class _NoText(ast.NodeTransformer):
    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node):
        return ast.Constant("")
