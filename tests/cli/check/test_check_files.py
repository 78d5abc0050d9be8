"""What the rules find in the files of a model; nothing of it is run."""

import pytest
from check_kit import BY_HAND, CONFIG, OURS, find, only, subject, write_model

GROUP = "instance_group [ { kind: KIND_CPU } ]\n"
DECOUPLED = CONFIG + "model_transaction_policy { decoupled: true }\n"
COUPLED = CONFIG + "model_transaction_policy { decoupled: false }\n"
TWO_INPUTS = CONFIG.replace("} ]\noutput", '}, { name: "MASK" data_type: TYPE_FP32 dims: [ 4 ] } ]\noutput')
STREAM = OURS.replace("def forward", "def stream").replace("return", "yield")
STEP = OURS.replace("def forward", "def begin") + "\n    def step(self, states):\n        return states\n"


@pytest.mark.parametrize("code", [BY_HAND, OURS], ids=["by hand", "ours"])
def test_good_model_has_no_findings(tmp_path, code):
    checked = subject(write_model(tmp_path / "m", code))
    assert find(checked) == []
    assert [one[0] for one in find(checked, "machine")] == ["KA504"]


CONFIGURATIONS = [
    ("KA105", "error", 'name: "other"\n' + CONFIG, 1, "the name is 'other'"),
    ("KA201", "error", CONFIG.replace("max_batch_size", "max_batchsize"), 2, "no field 'max_batchsize'"),
    (
        "KA201",
        "error",
        CONFIG.replace("kind:", "cuont: 2 kind:"),
        5,
        "has no field 'cuont'",
    ),
    ("KA202", "error", CONFIG + "parameters {", 7, "can't be read"),
    ("KA203", "error", CONFIG.replace("dims: [ 4 ]", "dims: [ 0 ]", 1), 3, "integer >= 1"),
    (
        "KA204",
        "warning",
        CONFIG.replace("instance_group [ { kind: KIND_CPU } ]\n", ""),
        0,
        "each GPU that it sees",
    ),
    (
        "KA205",
        "warning",
        CONFIG.replace("KIND_CPU", "KIND_CPU count: 3"),
        5,
        "3 instances on the CPU share",
    ),
    (
        "KA209",
        "warning",
        CONFIG + 'parameters { key: "kindaware.warmup" value { string_value: "1" } }\n',
        7,
        "no effect",
    ),
    ("KA210", "hint", CONFIG.replace("[ 4 ]", "[ -1, 3, 8, 8 ]", 1), 3, "looks like the batch's"),
    (
        "KA305",
        "error",
        CONFIG.replace('"X"', '"IMAGE"'),
        9,
        "'X' is no input of config.pbtxt",
    ),
    ("KA305", "error", CONFIG.replace('"Y"', '"YY"'), 10, "'Y' is no output"),
    ("KA306", "error", DECOUPLED, 7, "execute gets no response sender"),
]


@pytest.mark.parametrize(("rule", "level", "config", "line", "text"), CONFIGURATIONS)
def test_configuration_of_a_model_by_hand(tmp_path, rule, level, config, line, text):
    checked = subject(write_model(tmp_path / "m", BY_HAND, config))
    found = only(checked, rule)
    assert (found.level, found.line) == (level, line)
    assert text in found.text


CODES = [
    ("KA301", "error", OURS + "\n    def x(self) return 1\n", CONFIG, 11, "Python can't parse it"),
    ("KA302", "error", BY_HAND.replace("TritonPythonModel", "TritonPythonModle"), CONFIG, 4, "no class"),
    ("KA303", "error", BY_HAND.replace("def execute", "def excute"), CONFIG, 5, "defines no execute"),
    ("KA303", "error", OURS.replace("def forward", "def forwrd"), CONFIG, 8, "no forward and no stream"),
    ("KA304", "error", OURS.replace("X)", "X, mask)"), TWO_INPUTS, 8, "no parameter for input 'MASK'"),
    ("KA304", "error", OURS.replace("self, X", "self, a, b, c"), TWO_INPUTS, 8, "has 3 parameters"),
    ("KA304", "hint", OURS.replace("self, X", "self, a, b"), TWO_INPUTS, 8, "by position"),
    ("KA306", "error", OURS, DECOUPLED, 7, "defines no stream"),
    ("KA307", "error", STREAM, COUPLED, 7, "defines stream and no forward, and decoupled is false"),
    ("KA307", "error", STEP, COUPLED, 7, "defines step and no forward, and decoupled is false"),
    ("KA304", "error", STEP.replace("X)", "X, mask)"), TWO_INPUTS, 8, "no parameter for input 'MASK'"),
    (
        "KA307",
        "warning",
        BY_HAND.replace("return [self", "requests[0].get_response_sender()\n        return [self"),
        CONFIG,
        6,
        "isn't decoupled",
    ),
    ("KA308", "warning", OURS.replace("2 * X", "2 * X.cuda()"), CONFIG, 9, "lands on the same GPU"),
    ("KA308", "warning", BY_HAND.replace("2 * x", 'x.to("cuda")'), CONFIG, 10, "lands on the same GPU"),
    (
        "KA208",
        "error",
        OURS,
        CONFIG + 'parameters { key: "kindaware.num_thread" value { string_value: "1" } }\n',
        7,
        "no setting 'kindaware.num_thread'",
    ),
    ("KA211", "error", OURS, None, 0, "the class declares none"),
]


@pytest.mark.parametrize(("rule", "level", "code", "config", "line", "text"), CODES)
def test_code(tmp_path, rule, level, code, config, line, text):
    found = only(subject(write_model(tmp_path / "m", code, config)), rule)
    assert (found.level, found.line) == (level, line)
    assert text in found.text


@pytest.mark.parametrize(
    ("rule", "broken", "remedy"),
    [
        ("KA201", CONFIG.replace("max_batch_size", "max_batchsize"), "did you mean max_batch_size?"),
        (
            "KA208",
            CONFIG + 'parameters { key: "kind_aware.Warmup" value { string_value: "1" } }\n',
            "did you mean kindaware.warmup?",
        ),
    ],
)
def test_misspelled_name_has_the_nearest_as_remedy(tmp_path, rule, broken, remedy):
    assert only(subject(write_model(tmp_path / "m", OURS, broken)), rule).remedy == remedy


def test_parameter_whose_case_is_wrong_has_the_input_as_remedy(tmp_path):
    code = OURS.replace("X)", "X, mask)")
    found = only(subject(write_model(tmp_path / "m", code, TWO_INPUTS)), "KA304")
    assert found.remedy == "rename mask to MASK"


QUIET = {
    "stream and no policy": (STREAM, CONFIG),
    "stream, decoupled": (STREAM, DECOUPLED),
    "step and no policy": (STEP, CONFIG),
    "step, decoupled": (STEP, DECOUPLED),
    "preprocess takes the inputs": (
        OURS.replace("X)", "a, b, c)") + "\n    def preprocess(self, inputs):\n        return inputs\n",
        TWO_INPUTS,
    ),
    "any keyword": (OURS.replace("self, X", "self, **inputs"), TWO_INPUTS),
    "requests beside the inputs": (OURS.replace("self, X", "self, X, requests"), CONFIG),
    "a class that is imported": ("from elsewhere import TritonPythonModel\n", CONFIG),
    "a base from elsewhere": (
        "from base import Base\nclass TritonPythonModel(Base): pass\n",
        CONFIG,
    ),
    "torch's Tensor": (BY_HAND + "\n\nimport torch\n\ntorch.Tensor(3)\n", CONFIG),
    "the instance's GPU": (
        BY_HAND.replace("2 * x", 'x.to("cuda", args["model_instance_device_id"])'),
        CONFIG,
    ),
    "names of a called model": (
        BY_HAND.replace("2 * x", "pb_utils.InferenceRequest(inputs=[pb_utils.Tensor('OTHER', x)])"),
        CONFIG,
    ),
}


@pytest.mark.parametrize(("code", "config"), QUIET.values(), ids=QUIET.keys())
def test_what_may_be_right_is_not_found(tmp_path, code, config):
    assert find(subject(write_model(tmp_path / "m", code, config))) == []


def test_code_beside_the_versions_is_told_where_to_go(tmp_path):
    folder = write_model(tmp_path / "m", code=None)
    (folder / "model.py").write_text(BY_HAND)
    assert find(subject(folder)) == [("KA101", "error", "model.py", 0)]
    assert only(subject(folder), "KA101").remedy == f"mkdir -p {folder}/1 && mv {folder}/model.py {folder}/1"


def test_version_with_letters_is_told_its_number(tmp_path):
    folder = write_model(tmp_path / "m")
    (folder / "1").rename(folder / "v1")
    assert only(subject(folder), "KA102").remedy == f"mv {folder}/v1 {folder}/1"


def test_newest_version_without_code_and_stray_version_are_found(tmp_path):
    folder = write_model(tmp_path / "m")
    (folder / "2").mkdir()
    (folder / "v3").mkdir()
    (folder / "labels").mkdir()
    assert find(subject(folder)) == [("KA103", "error", "2", 0), ("KA104", "warning", "v3", 0)]


@pytest.mark.parametrize("inner", [None, "model"])
def test_folder_that_is_no_model_is_found(tmp_path, inner):
    folder = tmp_path / "data"
    folder.mkdir()
    if inner is not None:
        write_model(folder / inner)
    found = only(subject(folder), "KA106")
    assert ("a repository within the repository" in found.text) == (inner is not None)


def test_instances_of_another_kind_share_no_cores(tmp_path):
    config = CONFIG.replace("KIND_CPU", "KIND_GPU count: 3")
    assert find(subject(write_model(tmp_path / "m", BY_HAND, config), gpus=1)) == []
    assert only(subject(write_model(tmp_path / "m", BY_HAND, config), kind="CPU"), "KA205")


def test_other_backends_and_ensembles_are_left_alone(tmp_path):
    other = write_model(tmp_path / "m", code=None, config='backend: "onnxruntime"\n')
    assert find(subject(other)) == []
    ensemble = write_model(tmp_path / "e", code=None, config='platform: "ensemble"\n')
    assert find(subject(ensemble)) == []
