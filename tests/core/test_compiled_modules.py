"""`compile_cache`: one process compiles a module, the others load that; never for another module."""

import os
import subprocess
import sys
import textwrap
from types import ModuleType

import pytest
import torch
from core_kit import start, tensor
from torch import nn

from kindaware import ConfigError, KindAwareModel
from kindaware._device import compiled_modules
from kindaware._device.module_call import ModuleCall
from kindaware._device.module_facts import digest_code, digest_state
from kindaware.testing.accelerator import SimulatedAccelerator

CACHED = {"kindaware.compile": "default", "kindaware.compile_cache": "true"}


class Scale(nn.Module):
    """A network as anybody may write it, with a plain number in it."""

    def __init__(self, factor=2.0):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.factor = factor

    def forward(self, x):
        return self.linear(x) * self.factor


class Compiled:
    """Stands for AOTInductor: its programs compute what the module did when they were written."""

    def __init__(self, monkeypatch):
        self.calls = []
        self.num_loaded = 0
        self.answers = {}
        self.error = 0.0
        monkeypatch.setattr(compiled_modules, "write_program", self.write)
        monkeypatch.setattr(compiled_modules, "Program", self.load)

    def write(self, module, call, mode, path):
        self.calls.append(call)
        args, _ = call.arguments()
        module(*args)
        factor = module.factor
        content = f"{len(self.calls)}".encode()
        self.answers[content] = lambda x: module.linear(x) * factor
        path.write_bytes(content)

    def load(self, path, module):
        self.num_loaded += 1
        answer = self.answers[path.read_bytes()]
        return lambda tensors: answer(*tensors) + self.error


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    monkeypatch.setenv("KINDAWARE_CACHE", str(tmp_path))
    return Compiled(monkeypatch)


def load(network, parameters=CACHED, **changes):
    class TritonPythonModel(KindAwareModel):
        def load(self):
            torch.manual_seed(0)
            return network() if callable(network) and not isinstance(network, nn.Module) else network

        def forward(self, X):
            return self.model(X)

    return start(TritonPythonModel, parameters=parameters, **changes).model


def test_compile_cache_compiles_once_for_all_numbers_of_rows(compiled):
    module = load(Scale)
    for rows in (1, 2, 5):
        x = torch.ones(rows, 4)
        torch.testing.assert_close(module(x), module.linear(x) * 2)
    (call,) = compiled.calls
    assert call.tensors[0].shape == (2, 4)
    assert not call.tensors[0].is_inference()
    assert compiled.num_loaded == 1
    load(Scale)
    assert len(compiled.calls) == 1


def test_compile_cache_says_that_it_compiles_and_only_then(compiled, caplog):
    text = "module 'model': compiling into the cache, which takes a while"
    with caplog.at_level("INFO"):
        load(Scale)
        assert caplog.messages.count(text) == 1
        load(Scale)
    assert caplog.messages.count(text) == 1


def test_compile_cache_of_a_module_within_one_that_is_exported_is_part_of_its_code(compiled, monkeypatch):
    module = load(Scale)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    x = torch.ones(2, 3, 4)
    torch.testing.assert_close(module(x), module.linear(x) * 2)
    assert len(compiled.calls) == 1


def test_compile_cache_compiles_for_each_other_form_of_arguments(compiled):
    module = load(Scale)
    module(torch.ones(2, 3, 4))
    module(torch.ones(5, 3, 4))
    module(torch.ones(5, 7, 4))
    assert [tuple(call.tensors[0].shape) for call in compiled.calls] == [(2, 4), (2, 3, 4), (5, 7, 4)]


def test_compile_cache_passes_tensors_of_unusual_strides_as_dense_ones(compiled):
    module = load(Scale)
    x = torch.arange(16.0).reshape(4, 4)
    torch.testing.assert_close(module(x.t()), module(x.t().contiguous()), rtol=0, atol=0)
    assert len(compiled.calls) == 1
    assert ModuleCall.of((x.t(),), {}, batches=True).tensors[0].is_contiguous()


@pytest.mark.parametrize("what", ["digest_code", "digest_state"])
def test_compile_cache_of_other_code_or_state_compiles_anew(compiled, monkeypatch, what):
    load(Scale)
    monkeypatch.setattr(compiled_modules, what, lambda *_: "other")
    load(Scale)
    assert len(compiled.calls) == 2


def test_digest_of_code_is_of_what_files_contain_and_not_of_their_times(tmp_path, monkeypatch):
    path = tmp_path / "layers.py"
    path.write_text("FACTOR = 2")
    module = ModuleType("layers")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "layers", module)
    before = digest_code()

    os.utime(path, ns=(0, 0))
    assert digest_code() == before

    path.write_text("FACTOR = 3")
    os.utime(path, ns=(0, 0))
    assert digest_code() != before


def test_digest_of_code_asks_no_more_than_the_size_of_a_library(tmp_path, monkeypatch):
    path = tmp_path / "layers.so"
    path.write_bytes(b"12")
    module = ModuleType("layers")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "layers", module)
    before = digest_code()

    path.write_bytes(b"34")
    assert digest_code() == before

    path.write_bytes(b"345")
    assert digest_code() != before


def test_compile_cache_of_another_attribute_compiles_anew(compiled):
    load(Scale)
    module = load(lambda: Scale(factor=3.0))
    torch.testing.assert_close(module(torch.ones(1, 4)), module.linear(torch.ones(1, 4)) * 3)
    assert len(compiled.calls) == 2


def test_compile_cache_that_answers_otherwise_is_compiled_anew(compiled, monkeypatch, caplog):
    """What the digests don't tell, as where a forward reads a file or a variable."""
    monkeypatch.setattr(compiled_modules, "digest_state", lambda *_: "same")
    load(Scale)
    module = load(lambda: Scale(factor=3.0))
    torch.testing.assert_close(module(torch.ones(1, 4)), module.linear(torch.ones(1, 4)) * 3)
    assert "the compiled code in the cache doesn't answer like the module" in caplog.text
    assert len(compiled.calls) == 2


def test_compile_cache_of_code_that_answers_otherwise_is_refused(compiled):
    compiled.error = 10.0
    with pytest.raises(ConfigError, match=r"module 'model' setting 'compile_cache': .*got other answers"):
        load(Scale)


def test_compile_cache_of_a_module_that_cannot_be_exported_says_why(compiled, monkeypatch):
    def fails(*_):
        raise RuntimeError("data-dependent")

    monkeypatch.setattr(compiled_modules, "write_program", fails)
    module = load(Scale, {**CACHED, "kindaware.warmup": "off"})
    for _ in range(2):  # nor is a later call answered without the compiled code
        with pytest.raises(ConfigError, match=r"torch.export can export.*got RuntimeError: data-dependent"):
            module(torch.ones(1, 4))


def test_compile_cache_with_inputs_of_any_size_is_refused(compiled):
    changes = {"input": [tensor("X", [-1])], "output": [tensor("Y", [-1])]}
    with pytest.raises(ConfigError, match=r"inputs of fixed sizes.*got input 'X' with a dimension of -1"):
        load(Scale, **changes)


def test_compile_cache_on_a_gpu_leaves_compiling_to_torch(compiled, monkeypatch):
    modes = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: modes.append(options))
    simulated = SimulatedAccelerator(2)
    with simulated.installed(lambda *_: None), simulated.entered():
        load(Scale, {**CACHED, "kindaware.warmup": "off"}, kind="GPU")
    assert modes == [{"mode": "default"}]


@pytest.mark.parametrize(("mode", "num_compiled"), [("off", 0), ("frozen", 1)])
def test_compile_cache_keeps_what_torch_compiles_and_nothing_else(
    compiled, monkeypatch, tmp_path, mode, num_compiled
):
    modules = []
    monkeypatch.setattr("kindaware._instance.compile_modules", lambda *_: modules.append(mode))
    load(Scale, {**CACHED, "kindaware.compile": mode})
    assert len(modules) == num_compiled
    assert list(tmp_path.iterdir()) == []


def test_compile_cache_off_makes_no_file(compiled, monkeypatch, tmp_path):
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: None)
    load(Scale, {"kindaware.compile": "default"})
    assert list(tmp_path.iterdir()) == []


def test_digest_state_tells_attributes_and_forms_and_no_weights():
    class Config:
        pass

    first, second = Scale(), Scale()
    first.config, second.config = Config(), Config()
    assert digest_state(first, "") == digest_state(second, "")
    second.factor = 3.0
    assert digest_state(first, "") != digest_state(second, "")
    assert digest_state(Scale().bfloat16(), "") != digest_state(Scale(), "")


def test_compile_cache_finds_what_was_made_in_a_repository_that_was_downloaded_elsewhere(compiled, tmp_path):
    for download in ("first", "second"):
        folder = tmp_path / download / "net"

        class Named(Scale):
            def __init__(self, folder=folder):
                super().__init__()
                self.name_or_path = f"{folder}/1/tokenizer"

        Named.__qualname__ = "Named"
        load(Named, repository=folder)
    assert len(compiled.calls) == 1


PROGRAM = """
import json
import os
import sys

import torch
from torch import nn

from kindaware import KindAwareModel


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)
        self.register_buffer("scale", torch.arange(4.0) + 1, persistent=False)

    def forward(self, x):
        y = self.head(self.norm(self.conv(x)).relu().mean((2, 3)))
        return {"Y": y * self.scale + torch.tensor([1.0, 2.0, 3.0, 4.0]), "BEST": y.argmax(1)}


class TritonPythonModel(KindAwareModel):
    compile = "default"
    compile_cache = True

    def load(self):
        torch.manual_seed(0)
        self.plain = [torch.jit.unused]  # nothing that is a module
        return Net()

    def forward(self, X):
        return self.model(X)


config = {
    "name": "net",
    "max_batch_size": 8,
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [3, 16, 16]}],
    "output": [
        {"name": "Y", "data_type": "TYPE_FP32", "dims": [4]},
        {"name": "BEST", "data_type": "TYPE_INT64", "dims": []},
    ],
    "parameters": {"kindaware.precision": {"string_value": sys.argv[1]}},
}
model = TritonPythonModel()
model.initialize({
    "model_config": json.dumps(config), "model_instance_kind": "CPU", "model_instance_device_id": "0",
})
is_compiler_loaded = "torch._inductor.compile_fx" in sys.modules
torch.manual_seed(0)
expected = Net().eval()
with torch.inference_mode():
    for rows in (1, 2, 7):
        x = torch.randn(rows, 3, 16, 16)
        for layout in (torch.contiguous_format, torch.channels_last):
            found = model.model(x.contiguous(memory_format=layout).to(model.model.head.weight.dtype))
            torch.testing.assert_close(found["Y"].float(), expected(x)["Y"], rtol=0.05, atol=0.05)
print("compiler" if is_compiler_loaded else "no compiler")
"""


@pytest.mark.timeout(300)  # it compiles: the mutants are given less
@pytest.mark.parametrize("precision", ["32-true"])
def test_compile_cache_in_a_second_process_loads_no_compiler(tmp_path, monkeypatch, precision):
    monkeypatch.setenv("KINDAWARE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    for expected in ("compiler", "no compiler"):
        command = [sys.executable, str(tmp_path / "program.py"), precision]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
        assert done.stdout == f"{expected}\n", done.stderr
    assert len(list((tmp_path / "cache" / "compiled").glob("*.pt2"))) == 2
