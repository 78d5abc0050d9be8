"""Each Python and configuration block of the documentation runs."""

import doctest
import importlib.util
import os
import subprocess
import sys
import types

import pytest
import torch
from docs_models import hook_class, initialized, parse_config, requests_for, run
from docs_pages import OUR_PAGES, PAGES, blocks_of, name_of

from kindaware import DevicePlacement, KindAwareModel
from kindaware._outcomes import Failure

LANGUAGES = {"python", "pycon", "pbtxt", "console", "text", "{eval-rst}", "{toctree}"}
NO_WEIGHTS = """\
from torchvision.models import ResNet50_Weights, resnet50
ResNet50_Weights.get_state_dict = lambda self, **ignored: resnet50().state_dict()
"""


def cases(*languages, pages=OUR_PAGES):
    return [pytest.param(block, id=block.id) for page in pages for block in blocks_of(page, *languages)]


@pytest.fixture
def keep_threads():
    """`initialize` sets the threads of the process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_download(monkeypatch):
    from torchvision.models import ResNet50_Weights, resnet50

    monkeypatch.setattr(
        ResNet50_Weights, "get_state_dict", lambda self, **ignored: resnet50().state_dict(), raising=True
    )


def config_before(block):
    """The configuration with tensors that precedes a block on its page, or else follows it."""
    page = next(page for page in PAGES if name_of(page) == block.page)
    blocks = [one for one in blocks_of(page, "pbtxt") if "input" in parse_config(one.code)]
    before = [one for one in blocks if one.line < block.line]
    return parse_config((before or blocks)[-1 if before else 0].code) if blocks else None


@pytest.mark.parametrize("page", OUR_PAGES, ids=name_of)
def test_block_languages_are_known_ones(page):
    assert {block.language for block in blocks_of(page)} <= LANGUAGES


@pytest.mark.parametrize("block", cases("python", "pbtxt", pages=OUR_PAGES[1:]))
def test_block_is_no_wider_than_a_page(block):
    assert max(map(len, block.code.splitlines())) <= 88


@pytest.mark.parametrize("block", cases("pbtxt"))
def test_configuration_block_is_one_that_triton_parses(block):
    config = parse_config(block.code)
    assert config
    if block.path:
        assert block.path == f"models/{config['name']}/config.pbtxt"


def is_class(block):
    return "class TritonPythonModel" in block.code


def is_hook(block):
    return block.code.startswith("def ") and not block.path


@pytest.mark.parametrize("block", cases("python"))
def test_python_block_is_of_a_kind_that_is_run(block):
    compile(block.code, block.id, "exec")
    is_test_or_client = bool(block.path) and not block.path.startswith("models/")
    assert is_class(block) or is_hook(block) or is_test_or_client


@pytest.mark.parametrize("block", [case for case in cases("python") if is_class(case.values[0])])
def test_model_block_answers_requests(block, monkeypatch, keep_threads, no_download):
    namespace = {"__name__": "model"}
    if "triton_python_backend_utils" in block.code:
        monkeypatch.setitem(sys.modules, "triton_python_backend_utils", make_pb_utils())
    exec(compile(block.code, block.id, "exec"), namespace)
    model_class = namespace["TritonPythonModel"]
    config = config_of(block, model_class)
    if not issubclass(model_class, KindAwareModel):
        monkeypatch.delitem(sys.modules, "triton_python_backend_utils")
        assert issubclass(model_class, DevicePlacement)
        (response,) = initialized(model_class, config).execute(["request"])
        assert response.output_tensors[0].array.tolist() == [0, 2]
        return
    outcomes = run(initialized(model_class, config), requests_for(config, [1, 3, 2]))
    assert not [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    (name,) = [tensor["name"] for tensor in config["output"]]
    assert [len(outcome[name]) for outcome in outcomes] == [1, 3, 2]


def config_of(block, model_class):
    """What the class declares, else what the page says, else (on the first page) what README.md says."""
    if getattr(model_class, "outputs", ()):
        return {
            "name": "declared",
            "max_batch_size": model_class.max_batch_size,
            "input": [tensor.to_config() for tensor in model_class.inputs],
            "output": [tensor.to_config() for tensor in model_class.outputs],
        }
    return config_before(block) or config_before(blocks_of(PAGES[0], "python")[0])


def make_pb_utils():
    """As much of Triton's module as the block with its own execute touches."""

    class Tensor:
        def __init__(self, name, array):
            self.name, self.array = name, array

        def as_numpy(self):
            return self.array

    class InferenceResponse:
        def __init__(self, output_tensors):
            self.output_tensors = output_tensors

    module = types.ModuleType("triton_python_backend_utils")
    module.Tensor, module.InferenceResponse = Tensor, InferenceResponse
    array = torch.tensor([-1.0, 2.0]).numpy()
    module.get_input_tensor_by_name = lambda request, name: Tensor(name, array)
    return module


@pytest.mark.parametrize("block", [case for case in cases("python") if is_hook(case.values[0])])
def test_hook_block_works_in_the_model_of_its_page(block, keep_threads):
    page = next(page for page in PAGES if name_of(page) == block.page)
    base = {}
    exec(next(one.code for one in blocks_of(page, "python") if is_class(one)), base)
    model_class = hook_class(base["TritonPythonModel"], block.code)
    config = config_before(block)
    model = initialized(model_class, config)
    outcomes = run(model, requests_for(config, [1, 3, 2]))
    assert not [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert [len(outcome["SCORES"]) for outcome in outcomes] == [1, 3, 2]
    assert model.is_ready() is True
    model.finalize()


WITH_SESSIONS = [page for page in OUR_PAGES if blocks_of(page, "pycon")]


@pytest.mark.parametrize("page", WITH_SESSIONS, ids=name_of)
def test_sessions_of_a_page_print_what_they_say(page):
    code = "\n".join(block.code for block in blocks_of(page, "pycon"))
    test = doctest.DocTestParser().get_doctest(code, {}, name_of(page), name_of(page), 0)
    assert test.examples
    failures = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=failures.append)
    assert not failures, "".join(failures)


def write_files(page, folder):
    """Write each block that names a file."""
    for block in blocks_of(page, "python", "pbtxt"):
        if block.path:
            path = folder / block.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code)


WITH_UNIT_TESTS = [
    page for page in OUR_PAGES if any((block.path or "").startswith("test_") for block in blocks_of(page))
]


def test_pages_with_unit_tests_are_those_that_promise_them():
    assert {name_of(page) for page in WITH_UNIT_TESTS} == {
        "README.md",
        "docs/quickstart.md",
        "docs/testing.md",
    }


@pytest.mark.parametrize("page", WITH_UNIT_TESTS, ids=name_of)
def test_unit_tests_of_a_page_pass_in_plain_pytest(page, tmp_path):
    if name_of(page) == "README.md":
        pytest.importorskip("torchvision")
    write_files(page, tmp_path)
    (tmp_path / "conftest.py").write_text(NO_WEIGHTS if name_of(page) == "README.md" else "")
    tests = [path.name for path in tmp_path.glob("test_*.py") if "on_server" not in path.name]
    assert " passed" in run_pytest(tmp_path, *tests)


def run_pytest(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_configurations_in_unit_tests_equal_those_in_config_pbtxt(tmp_path, monkeypatch):
    for page in WITH_UNIT_TESTS:
        write_files(page, tmp_path)
        for test in (one.path for one in blocks_of(page, "python") if (one.path or "").startswith("test_")):
            if "on_server" in test:
                continue
            spec = importlib.util.spec_from_file_location("page_test", tmp_path / test)
            module = importlib.util.module_from_spec(spec)
            monkeypatch.chdir(tmp_path)
            spec.loader.exec_module(module)
            written = parse_config((tmp_path / f"models/{module.CONFIG['name']}/config.pbtxt").read_text())
            assert {key: written[key] for key in module.CONFIG} == module.CONFIG
