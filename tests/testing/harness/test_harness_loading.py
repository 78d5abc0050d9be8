"""How a model is found, imported, completed, initialized and finalized; and what is refused."""

import json
import os
import py_compile
import sys
import traceback
from pathlib import Path

import pytest
from harness_cases import model
from harness_kit import ECHO, PLAIN, floats, write_model

from kindaware import ConfigError
from kindaware.testing import ModelHarness, ModelLoadError
from kindaware.testing.harness import HarnessError

EXAMPLES = Path(__file__).parents[3] / "examples"

PHASES = """
import sys
pb_utils.phases = getattr(pb_utils, "phases", []) + ["import"]

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        pb_utils.phases.append("auto_complete")
        return config

    def __init__(self):
        pb_utils.phases.append("construct")

    def initialize(self, args):
        pb_utils.phases.append("initialize")
        self.args = args

    def execute(self, requests):
        pb_utils.phases.append("execute")
        return [answer(get(request)) for request in requests]

    def finalize(self):
        pb_utils.phases.append("finalize")
        pb_utils.Logger.log_info("the end")
"""


def test_phases_of_an_instance_are_those_of_its_process(tmp_path):
    with ModelHarness(write_model(tmp_path, "m", PHASES)) as harness:
        pb_utils = harness.pb_utils
        harness.infer(X=floats(2))
        assert pb_utils.phases == ["import", "construct", "initialize", "execute"]
    assert pb_utils.phases[-1] == "finalize"
    assert [line.text for line in harness.logs][-1] == "the end"


def test_args_are_those_that_triton_passes(tmp_path):
    folder = write_model(tmp_path, "net", PHASES, version="3")
    with ModelHarness(folder, parameters={"weights": "random"}) as harness:
        assert harness.instance.args == harness.args
        config = json.loads(harness.args.pop("model_config"))
        assert harness.args == {
            "model_instance_kind": "CPU",
            "model_instance_name": "net_0",
            "model_instance_device_id": "0",
            "model_repository": str(folder),
            "model_version": "3",
            "model_name": "net",
        }
        assert config == harness.config
        assert config["parameters"] == {"weights": {"string_value": "random"}}
        assert harness.pb_utils.get_model_dir() == str(folder / "3")


def test_version_is_the_highest_unless_said(tmp_path):
    for number in ("2", "10"):
        write_model(tmp_path, "m", model(f"return [answer([{number}.0])]"), version=number)
    for version, wanted in ((None, 10.0), (2, 2.0)):
        with ModelHarness(tmp_path / "m", version=version) as harness:
            assert harness.infer(X=[1.0]).outputs["Y"].tolist() == [wanted]


def test_auto_complete_can_be_turned_off(tmp_path):
    source = model("return []") + (
        "\n    @staticmethod\n    def auto_complete_config(config):\n"
        "        config.set_max_batch_size(4)\n        return config\n"
    )
    folder = write_model(tmp_path, "m", source)
    with ModelHarness(folder) as harness:
        assert harness.config["max_batch_size"] == 4
    with ModelHarness(folder, auto_complete=False) as harness:
        assert harness.config["max_batch_size"] == 0


def test_a_kind_that_contradicts_the_config_wins_with_a_note(tmp_path):
    folder = write_model(tmp_path, "m", PHASES, PLAIN + "instance_group { kind: KIND_GPU gpus: 0 }")
    with ModelHarness(folder, kind="MODEL") as harness:
        assert harness.args["model_instance_kind"] == "MODEL"
    notes = [line.text for line in harness.logs if line.level == "WARNING"]
    assert notes == ["instance_group 0 of model 'm' has KIND_GPU, started as MODEL"]
    with ModelHarness(folder, kind="GPU") as harness:
        assert harness.args["model_instance_kind"] == "GPU"
    assert not [line for line in harness.logs if line.level == "WARNING"]


class Plain:
    def initialize(self, args):
        self.args = args

    def execute(self, requests):
        import triton_python_backend_utils as pb_utils

        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("Y", one.inputs()[0].as_numpy() * 2)])
            for one in requests
        ]


def test_a_class_with_a_config_is_served(tmp_path):
    with ModelHarness(Plain, config=PLAIN, name="plain") as harness:
        assert harness.infer(X=floats(2)).outputs["Y"].tolist() == [2.0, 4.0]
        assert harness.instance.args["model_name"] == "plain"


def test_a_class_without_a_config_is_refused():
    with pytest.raises(ConfigError, match="class Plain: expected a config with it"):
        ModelHarness(Plain).start()


def test_the_version_is_one_that_the_policy_names(tmp_path):
    policy = PLAIN + "version_policy { specific { versions: [ 1, 2, 9 ] } }"
    for version in ("1", "2", "3"):
        folder = write_model(tmp_path, "m", PHASES, policy, version)
    with ModelHarness(folder) as harness:
        assert harness.args["model_version"] == "2"
    with ModelHarness(folder, version=3) as harness:
        assert harness.args["model_version"] == "3"
    (folder / "config.pbtxt").write_text(PLAIN + "version_policy { specific { versions: 9 } }")
    with pytest.raises(ConfigError, match=r"a version of its version_policy, \[9\], in it, got \['1'"):
        ModelHarness(folder).start()


def test_a_model_with_implicit_state_is_refused():
    state = 'state { input_name: "I" output_name: "O" data_type: TYPE_FP32 dims: 1 }'
    with pytest.raises(ConfigError, match="expected no state in a harness, got implicit state"):
        ModelHarness(Plain, config=PLAIN + f"sequence_batching {{ {state} }}").start()


def test_siblings_and_relative_imports_work(tmp_path):
    source = "import beside\nfrom . import inside\n" + model("return [answer([beside.A, inside.B])]")
    folder = write_model(tmp_path, "m", source)
    (folder / "beside.py").write_text("A = 1.0\n")
    (folder / "1" / "inside.py").write_text("B = 2.0\n")
    with ModelHarness(folder) as harness:
        assert harness.infer(X=[1.0]).outputs["Y"].tolist() == [1.0, 2.0]
    assert not {"beside", "inside", "1", "1.model", "1.inside"} & set(sys.modules)


def test_the_c_module_can_be_imported_at_the_top_of_model_py(tmp_path):
    source = (
        "import importlib.util\nimport c_python_backend_utils as c\n"
        "from c_python_backend_utils import Tensor\n"
        "MADE = Tensor('Y', np.ones(2, np.float32))\n"
        "for name in ('c_python_backend_utils', 'triton_python_backend_utils'):\n"
        "    assert importlib.util.find_spec(name).name == name\n"
    ) + model("assert pb_utils.Tensor is c.Tensor\nreturn [c.InferenceResponse([MADE])]")
    with ModelHarness(write_model(tmp_path, "m", source)) as harness:
        assert harness.infer(X=[1.0]).outputs["Y"].tolist() == [1.0, 1.0]
        assert sys.modules["c_python_backend_utils"].Tensor is harness.pb_utils.Tensor
    assert "c_python_backend_utils" not in sys.modules


def test_a_class_can_import_the_c_module():
    class Direct:
        def execute(self, requests):
            import c_python_backend_utils as c

            return [c.InferenceResponse([c.Tensor("Y", one.inputs()[0].as_numpy())]) for one in requests]

    with ModelHarness(Direct, config=PLAIN) as harness:
        assert harness.infer(X=[3.0]).outputs["Y"].tolist() == [3.0]


def test_a_model_that_was_rewritten_is_read_again(tmp_path):
    for number in (1.0, 2.0, 3.0):
        folder = write_model(tmp_path, "m", model(f"return [answer([{number}])]"))
        with ModelHarness(folder) as harness:
            assert harness.infer(X=[1.0]).outputs["Y"].tolist() == [number]
    assert not list(folder.rglob("__pycache__"))


def test_a_model_with_stale_bytecode_is_read_anew(tmp_path):
    file = write_model(tmp_path, "m", model("return [answer([1.0])]")) / "1" / "model.py"
    py_compile.compile(str(file))
    stamp = file.stat()
    file.write_text(file.read_text().replace("[1.0]", "[2.0]"))
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with ModelHarness(tmp_path / "m") as harness:
        assert harness.infer(X=[1.0]).outputs["Y"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ([], r"expected a model's directory, .* got no such directory"),
        (["m/config.pbtxt"], "expected a version, such as 1/model.py, in it, got none"),
        (["m/model.py"], r"got none; put model.py into the directory of a version, .*/m/1"),
        (["m/1/other.py"], "expected 1/model.py in it, got no such file"),
    ],
)
def test_a_path_without_a_model_is_refused(tmp_path, files, text):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match=text):
        ModelHarness(tmp_path / "m").start()


def test_a_config_that_does_not_parse_says_where(tmp_path):
    folder = write_model(tmp_path, "m", ECHO, "max_batch_size: 4\ninput { nam: 1 }\n")
    with pytest.raises(ConfigError, match=r"m/config.pbtxt line 2, column 9: "):
        ModelHarness(folder).start()


def test_a_config_that_the_server_refuses_is_refused(tmp_path):
    folder = write_model(tmp_path, "m", ECHO, 'input { name: "X" data_type: TYPE_FP32 }')
    with pytest.raises(ConfigError, match="model input 'X' must specify 'dims' for m"):
        ModelHarness(folder).start()


def test_a_config_with_another_name_is_refused(tmp_path):
    folder = write_model(tmp_path, "m", ECHO, 'name: "other"' + PLAIN)
    with pytest.raises(ConfigError, match="expected a configuration with the directory's name 'm'"):
        ModelHarness(folder).start()


def test_a_model_that_fails_to_import_shows_its_own_traceback_then_one_line(tmp_path):
    folder = write_model(tmp_path, "m", "#\nimport json\njson.loads('{')\n")
    with pytest.raises(ModelLoadError) as caught:
        ModelHarness(folder).start()
    assert traceback.extract_tb(caught.value.__cause__.__traceback__)[0].filename == f"{folder}/1/model.py"
    text = "".join(traceback.format_exception(caught.value))
    assert text.index('model.py", line 3, in <module>') < text.index("load failed for model 'm'")
    assert caught.value.reason.startswith("JSONDecodeError: Expecting property name")


@pytest.mark.parametrize("name", ["Model", "TritonPythonModle"])
def test_a_class_of_another_name_is_named_with_its_line(tmp_path, name):
    body = "    def execute(self, requests):\n        pass\n" if name == "Model" else "    pass\n"
    folder = write_model(tmp_path, "m", f"#\n\n\nclass {name}:\n{body}")
    with pytest.raises(ModelLoadError) as caught:
        ModelHarness(folder).start()
    assert caught.value.reason.startswith(
        "AttributeError: module '1.model' has no attribute 'TritonPythonModel'"
    )
    assert f"(model.py:4 defines {name}; Triton looks for TritonPythonModel alone: rename it)" in str(
        caught.value
    )


def test_a_class_that_is_no_model_is_not_taken_for_one(tmp_path):
    folder = write_model(tmp_path, "m", "class Helper:\n    pass\n")
    with pytest.raises(ModelLoadError) as caught:
        ModelHarness(folder).start()
    assert "Helper" not in str(caught.value)


def test_a_module_that_is_missing_is_told_with_its_line(tmp_path):
    folder = write_model(tmp_path, "m", "#\nimport not_here_at_all\n")
    with pytest.raises(ModelLoadError) as caught:
        ModelHarness(folder).start()
    assert caught.value.reason == (
        f"ModuleNotFoundError: No module named 'not_here_at_all'\n\nAt:\n  {folder}/1/model.py(2): <module>\n"
    )


def test_a_module_of_the_models_that_fails_is_told_with_both_lines(tmp_path):
    folder = write_model(tmp_path, "m", "#\nimport helper_of_m\n")
    (folder / "1" / "helper_of_m.py").write_text("\n\n1 / 0\n")
    with pytest.raises(ModelLoadError) as caught:
        ModelHarness(folder).start()
    lines = [
        line for line in caught.value.reason.splitlines() if "helper_of_m.py" in line or "model.py" in line
    ]
    assert lines == [f"  {folder}/1/helper_of_m.py(3): <module>", f"  {folder}/1/model.py(2): <module>"]


@pytest.mark.parametrize(
    "version",
    ["twenty", "24-10", 24, ("24", "10"), "22.01", "24.9", "99.99", "25.13", (25, 1, 1), None],
)
def test_an_unknown_server_version_is_refused(version):
    with pytest.raises(HarnessError, match=r"server_version: expected a release such as '24\.10'"):
        ModelHarness(Plain, config=PLAIN, server_version=version)


@pytest.mark.parametrize(
    ("subject", "arguments", "options"),
    [
        ("model", [5], {}),
        ("model", [None], {}),
        ("instances", [Plain], {"instances": 0}),
        ("instances", [Plain], {"instances": -1}),
        ("models", [Plain], {"models": "models/add"}),
        ("models", [Plain], {"models": [(Plain,)]}),
        ("parameters", [Plain], {"parameters": {"b": None}}),
        ("parameters", [Plain], {"parameters": {1: "b"}}),
        ("parameters", [Plain], {"parameters": ["b"]}),
    ],
)
def test_an_argument_that_is_wrong_is_refused_by_name(subject, arguments, options):
    with pytest.raises(HarnessError, match=rf"^{subject}: expected .*, got .*; "):
        ModelHarness(*arguments, **{"config": PLAIN, **options})


def test_add_model_of_what_is_no_model_is_refused():
    with ModelHarness(Plain, config=PLAIN) as harness:
        with pytest.raises(HarnessError, match=r"^model: expected a model's directory"):
            harness.add_model(5)
        with pytest.raises(HarnessError, match=r"^instances: expected"):
            harness.add_model(Plain, PLAIN, instances=0)


def test_model_dir_of_a_class_lies_in_its_repository():
    with ModelHarness(Plain, config=PLAIN, version=3) as harness:
        directory = harness.pb_utils.get_model_dir()
        assert directory == harness.args["model_repository"] + "/3" == "/models/model/3"


@pytest.mark.parametrize("index", [1, -1, "0"])
def test_an_instance_that_is_not_there_is_refused(index):
    refused = pytest.raises(HarnessError, match=r"^instance: expected an index of the 1 instances")
    with ModelHarness(Plain, config=PLAIN) as harness, refused:
        harness.infer(X=[1.0], instance=index)


def test_a_harness_that_is_not_running_says_so(tmp_path):
    harness = ModelHarness(Plain, config=PLAIN)
    with pytest.raises(HarnessError, match="expected a running one"):
        harness.infer(X=[1.0])
    with harness, pytest.raises(HarnessError, match="expected one start, got a second"):
        harness.start()
    harness.stop()


def test_the_resnet_example_answers_as_its_model_does():
    import numpy as np
    import torch

    image = np.random.default_rng(0).random((2, 3, 224, 224), np.float32)
    with ModelHarness(
        EXAMPLES / "resnet50/models/resnet50", parameters={"weights": "random", "kindaware.warmup": "off"}
    ) as model:
        result = model.infer(INPUT=image)
        with torch.inference_mode():
            wanted = model.instance.model(torch.from_numpy(image))
        assert result.outputs["OUTPUT"].shape == (2, 1000)
        np.testing.assert_allclose(result.outputs["OUTPUT"], wanted.numpy(), rtol=1e-4, atol=1e-5)
        assert "kindaware instance resnet50_0_0 ready: kind CPU" in model.log_text()
