"""Each Python and configuration block of the documentation runs."""

import doctest
import importlib.util
import re

import pytest
import torch
from docs_models import hook_class, initialized, parse_config, requests_for, run
from docs_pages import OUR_PAGES, PAGES, ROOT, blocks_of, name_of
from plain_pytest import PlainPytest

from kindaware._batch.results import Failure
from kindaware.testing import ModelHarness

LANGUAGES = {"python", "pycon", "pbtxt", "console", "text", "output", "diff", "json", "yaml", "dockerfile"}
LANGUAGES |= {"{eval-rst}", "{toctree}"}
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
    return "class TritonPythonModel" in block.code and not is_test(block)


def is_test(block):
    return (block.path or "").startswith("test_")


def is_hook(block):
    return block.code.startswith("def ") and not block.path


@pytest.mark.parametrize("block", cases("python"))
def test_python_block_is_of_a_kind_that_is_run(block):
    compile(block.code, block.id, "exec")
    is_test_or_client = bool(block.path) and not block.path.startswith("models/")
    assert is_class(block) or is_hook(block) or is_test_or_client


def models(*bases):
    """The blocks with a model whose class is derived from one of these, or from none."""
    pattern = r"class TritonPythonModel" + (rf"\(({'|'.join(bases)})\)" if bases else ":")
    return [case for case in cases("python") if re.search(pattern, case.values[0].code)]


def needs_harness(case):
    """Whether a block's model answers with `stream`, calls other models, keeps sequences or reads files."""
    signs = (
        "def stream(",
        "def step(",
        "self.call",
        "self.sequence_state",
        "self.load_weights",
        "version_directory",
    )
    return any(sign in case.values[0].code for sign in signs)


@pytest.mark.parametrize("block", [case for case in models("KindAwareModel") if not needs_harness(case)])
def test_model_block_answers_requests(block, keep_threads, no_download):
    namespace = {"__name__": "model"}
    exec(compile(block.code, block.id, "exec"), namespace)
    model_class = namespace["TritonPythonModel"]
    config = config_of(block, model_class)
    outcomes = run(initialized(model_class, config), requests_for(config, [1, 3, 2]))
    assert not [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    for name in [tensor["name"] for tensor in config["output"]]:
        assert [len(outcome[name]) for outcome in outcomes] == [1, 3, 2]


@pytest.mark.parametrize("block", models("DevicePlacement"))
def test_block_with_its_own_execute_answers_requests(block, tmp_path):
    config = config_before(block)
    place = tmp_path / config["name"] / "1" / "model.py"
    place.parent.mkdir(parents=True)
    place.write_text(block.code)
    with ModelHarness(tmp_path / config["name"], config=config) as model:
        assert model.infer(X=[-1, 2]).outputs["Y"].tolist() == [0, 2]


def test_other_models_are_used_by_the_unit_tests_of_their_page():
    assert len(models()) >= 4
    for block in (case.values[0] for case in [*models(), *filter(needs_harness, models("KindAwareModel"))]):
        tests = [one for one in blocks_of(ROOT / block.page, "python") if is_test(one)]
        directory = block.path.removesuffix("/1/model.py")
        name = directory.removeprefix("models/")
        alone, by_name = f'ModelHarness("{directory}"', 'ModelHarness(f"models/{name}"'
        assert any(alone in one.code or (by_name in one.code and f'"{name}"' in one.code) for one in tests), (
            block.id
        )


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


WITH_UNIT_TESTS = [page for page in OUR_PAGES if any(is_test(block) for block in blocks_of(page, "python"))]


def test_pages_with_unit_tests_are_those_that_promise_them():
    assert {name_of(page) for page in WITH_UNIT_TESTS} >= {
        "README.md",
        "docs/explanation/simulated-gpu.md",
        "docs/how-to/call-other-models.md",
        "docs/how-to/hugging-face.md",
        "docs/how-to/load-a-checkpoint.md",
        "docs/reference/modes.md",
        "docs/tutorials/first-model.md",
        "docs/reference/testing.md",
    }


@pytest.fixture(scope="module")
def plain_pytest():
    with PlainPytest() as started:
        yield started


@pytest.mark.parametrize("page", WITH_UNIT_TESTS, ids=name_of)
def test_unit_tests_of_a_page_pass_in_plain_pytest(page, plain_pytest, tmp_path):
    if name_of(page) == "README.md":
        pytest.importorskip("torchvision")
    write_files(page, tmp_path)
    if name_of(page) == "README.md":
        (tmp_path / "conftest.py").write_text(NO_WEIGHTS)
    tests = [path.name for path in tmp_path.glob("test_*.py") if "on_server" not in path.name]
    assert " passed" in plain_pytest.run(tmp_path, *tests)


def test_configurations_in_unit_tests_equal_those_in_config_pbtxt(tmp_path, monkeypatch):
    compared = 0
    for page in WITH_UNIT_TESTS:
        write_files(page, tmp_path)
        tests = [one for one in blocks_of(page, "python") if is_test(one) and '"input": [' in one.code]
        for test in (one.path for one in tests):
            spec = importlib.util.spec_from_file_location("page_test", tmp_path / test)
            module = importlib.util.module_from_spec(spec)
            monkeypatch.chdir(tmp_path)
            spec.loader.exec_module(module)
            for config in vars(module).values():
                if not (isinstance(config, dict) and "input" in config and "name" in config):
                    continue
                path = tmp_path / f"models/{config['name']}/config.pbtxt"
                if path.exists():  # a class may be tested with a configuration of the test's own
                    written = parse_config(path.read_text())
                    assert {key: written[key] for key in config} == config
                    compared += 1
    assert compared
