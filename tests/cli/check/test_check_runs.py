"""How a model runs, and what the rules make of it; what would end this process runs in one of its own."""

import json

import pytest
from check_kit import BY_HAND, CONFIG, OURS, find, only, subject, write_model

from kindaware.cli.check._report import Report, write_report
from kindaware.cli.check._subject import Trial
from kindaware.cli.check._trial import TrialOptions, run_trial
from kindaware.cli.check._trial_process import try_model

SENDS_NOTHING = "        requests[0].get_response_sender()\n        return None\n        return [self"
WAITS = "    def initialize(self, args):\n        threading.Event().wait()\n\n"
ALL = "[self.answer(request) for request in requests]"


def run_here(folder, **options):
    """Run a model in this process; only for those that come back."""
    checked = subject(folder)
    found = try_model(str(folder), **{"kind": None, "groups": [0], "shapes": {}, "parameters": {}, **options})
    checked.trial = Trial(**json.loads(json.dumps(found)))
    return checked


def test_model_that_is_right_says_where_it_runs_and_what_it_answers(tmp_path):
    checked = run_here(write_model(tmp_path / "m", OURS))
    [instance] = checked.trial.instances
    assert (instance["kind"], instance["device"], instance["is_kindaware"]) == ("KIND_CPU", "cpu", True)
    assert checked.trial.request["inputs"] == {"X": ["float32", [1, 4]]}
    assert checked.trial.request["outputs"] == {"Y": ["float32", [1, 4]]}
    assert find(checked, "run") == []


BROKEN = [
    # by hand: the line of the code, or of the output in config.pbtxt
    (
        BY_HAND.replace("2 * x", "x[:, :3]"),
        "KA403",
        "config.pbtxt",
        4,
        "has the shape [1, 3], and dims are [4]",
    ),
    (BY_HAND.replace("2 * x", "x.astype('f8')"), "KA403", "config.pbtxt", 4, "has the type float64"),
    (
        BY_HAND.replace("[self.answer(request) for request in requests]", "[]"),
        "KA402",
        "1/model.py",
        0,
        "Number of",
    ),
    (BY_HAND.replace("2 * x", "1 / 0"), "KA402", "1/model.py", 10, "ZeroDivisionError: division by zero"),
    ("import nowhere_to_be_found\n" + BY_HAND, "KA401", "1/model.py", 1, "No module named"),
    # with the library, which refuses while it loads
    (
        OURS.replace("2 * X", "X[:, :3]"),
        "KA403",
        "config.pbtxt",
        4,
        "shape [B, 4], got shape [1, 3]",
    ),
    (OURS.replace("2 * X", "X.double()"), "KA403", "config.pbtxt", 4, "expected data type FP32, got FP64"),
    (OURS.replace("2 * X", "1 / 0"), "KA401", "1/model.py", 9, "ZeroDivisionError"),
    (OURS.replace("pass", "raise OSError('no weights')"), "KA401", "1/model.py", 6, "OSError: no weights"),
    (OURS.replace("pass", "raise SystemExit(3)"), "KA406", "1/model.py", 6, "SystemExit: 3"),
]


@pytest.mark.parametrize(("code", "rule", "file", "line", "text"), BROKEN)
def test_broken_model_has_one_finding_with_its_line(tmp_path, code, rule, file, line, text):
    checked = run_here(write_model(tmp_path / "m", code))
    assert find(checked, "run") == [(rule, "error", file, line)]
    assert text in only(checked, rule, "run").text


def test_text_that_is_made_up_may_be_refused(tmp_path):
    config = CONFIG.replace("TYPE_FP32", "TYPE_STRING", 1)
    by_hand = BY_HAND.replace("2 * x", "__import__('json').loads(x[0][0])")
    assert find(run_here(write_model(tmp_path / "a", by_hand, config)), "run") == [
        ("KA402", "warning", "1/model.py", 10)
    ]
    ours = OURS.replace("2 * X", "X").replace(
        "    def forward",
        "    def preprocess(self, inputs):\n        from kindaware import RequestError\n"
        "        raise RequestError('no picture')\n\n    def forward",
    )
    found = only(run_here(write_model(tmp_path / "b", ours, config)), "KA402", "run")
    assert found.level == "hint"
    assert "was refused: no picture" in found.text


def test_output_that_is_not_declared_or_missing(tmp_path):
    config = CONFIG.replace(
        'output [ { name: "Y"', 'output [ { name: "Z" data_type: TYPE_FP32 dims: [ 4 ] }, { name: "Y"'
    )
    found = only(run_here(write_model(tmp_path / "m", BY_HAND, config)), "KA403", "run")
    assert found.text == "the answer lacks the output 'Z'"


def test_sizes_of_a_row_are_those_of_the_option(tmp_path):
    config = CONFIG.replace("[ 4 ]", "[ -1 ]")
    folder = write_model(tmp_path / "m", BY_HAND, config)
    assert run_here(folder).trial.request["inputs"] == {"X": ["float32", [1, 8]]}
    assert run_here(folder, shapes={"X": [3]}).trial.request["outputs"] == {"Y": ["float32", [1, 3]]}


def test_own_warm_up_data_takes_the_place_of_zeros(tmp_path):
    own = "\n    def warmup_inputs(self, rows):\n        return {'X': torch.ones(rows, 4)}\n"
    code = "import torch\n" + OURS + own
    code = code.replace("return 2 * X", "assert X.all()\n        return X")
    assert find(run_here(write_model(tmp_path / "m", code)), "run") == []


def test_stream_is_cancelled_after_some_responses(tmp_path):
    code = OURS.replace("def forward", "def stream").replace(
        "return 2 * X", "while True:\n            yield X"
    )
    config = CONFIG.replace("dynamic_batching { }", "model_transaction_policy { decoupled: true }")
    checked = run_here(write_model(tmp_path / "m", code, config))
    assert checked.trial.request["responses"] == 3


def test_stream_without_an_item_is_said_to_have_ended(tmp_path, capsys):
    code = OURS.replace("def forward", "def stream").replace("return 2 * X", "yield from ()")
    config = CONFIG.replace("dynamic_batching { }", "model_transaction_policy { decoupled: true }")
    checked = run_here(write_model(tmp_path / "m", code, config))
    write_report(Report(checked, [], ""))
    assert "-> the stream ended without an item, " in capsys.readouterr().out
    assert find(checked, "run") == []


def test_sequence_gets_what_a_sequence_needs(tmp_path):
    config = CONFIG.replace("dynamic_batching { }", "sequence_batching { oldest { } }")
    code = OURS.replace("2 * X", "X + len(self.sequence_state or {})")
    assert find(run_here(write_model(tmp_path / "m", code, config)), "run") == []


def test_parameter_overrides_that_of_the_configuration(tmp_path):
    code = OURS.replace("pass", "assert self.parameters['weights'] == 'random'")
    folder = write_model(tmp_path / "m", code)
    assert [one[0] for one in find(run_here(folder), "run")] == ["KA401"]
    assert find(run_here(folder, parameters={"weights": "random"}), "run") == []


def test_each_group_has_an_instance_of_its_own(tmp_path):
    config = CONFIG.replace("[ { kind: KIND_CPU } ]", "[ { kind: KIND_CPU }, { kind: KIND_CPU name: 'b' } ]")
    checked = run_here(write_model(tmp_path / "m", OURS, config), groups=[0, 1])
    assert [one["name"] for one in checked.trial.instances] == ["m_0_0", "b_0"]


def test_warning_in_the_log_is_found(tmp_path):
    code = OURS.replace("pass", "self.logger.warning('old weights')")
    found = only(run_here(write_model(tmp_path / "m", code)), "KA408", "run")
    assert "old weights" in found.text
    assert found.remedy == "change what the warning names, in the model's code or in config.pbtxt"


def test_warning_about_missing_weights_says_to_put_them_there(tmp_path):
    code = OURS.replace("pass", "self.logger.warning('w.pt is missing: the weights are random numbers')")
    found = only(run_here(write_model(tmp_path / "m", code)), "KA408", "run")
    assert found.remedy.startswith("put the file of weights where the model looks for it")


def test_text_that_is_sent_is_not_empty(tmp_path):
    config = CONFIG.replace("TYPE_FP32 dims: [ 4 ]", "TYPE_STRING dims: [ 1 ]", 1)
    code = BY_HAND.replace("2 * x", "x.astype(bool).astype('f').repeat(4, 1) * (1 / len(x[0, 0]))")
    checked = run_here(write_model(tmp_path / "m", code, config))
    assert find(checked, "run") == []
    assert checked.trial.request["outputs"] == {"Y": ["float32", [1, 4]]}


def test_what_a_called_model_prints_is_not_the_callers(tmp_path):
    called = OURS.replace("pass", "print('a word of the other')")
    other = str(write_model(tmp_path / "other", called))
    code = OURS.replace("2 * X", "self.call('other', {'X': X})['Y']")
    checked = run_here(write_model(tmp_path / "m", code), called=[other])
    checked.trial.output = "a word of the other"
    assert find(checked, "run") == []
    checked = run_here(write_model(tmp_path / "talks", code.replace("pass", "print('mine')")), called=[other])
    checked.trial.output = "a word of the other"
    assert [one[0] for one in find(checked, "run")] == ["KA407"]
    assert only(checked, "KA407", "run").text == "it prints"  # whose word that is can't be told


def test_output_of_another_name_is_found(tmp_path):
    code = BY_HAND.replace('Tensor("Y"', 'Tensor("Y".lower()')
    checked = run_here(write_model(tmp_path / "m", code))
    assert find(checked, "run") == [("KA403", "error", "config.pbtxt", 4)]
    assert only(checked, "KA403", "run").text == "the answer lacks the output 'Y'"


NASTY = [
    ("import os\n", "os._exit(4)", "KA406", 7, "exit code 4"),
    ("import ctypes\n", "ctypes.string_at(0)", "KA406", 7, "SIGSEGV"),
    ("import sys\n", "sys.exit(4)", "KA402", 7, "SystemExit: 4"),
]


def run_apart(folder, code, config=CONFIG, seconds=60.0):
    checked = subject(write_model(folder, code, config))
    checked.trial = run_trial(checked, TrialOptions(seconds=seconds))
    return checked


@pytest.mark.parametrize(("head", "line", "rule", "place", "text"), NASTY)
def test_model_that_ends_its_process_has_one_finding(tmp_path, head, line, rule, place, text):
    code = head + BY_HAND.replace("        return [self", f"        {line}\n        return [self")
    checked = run_apart(tmp_path / "m", code)
    assert find(checked, "run") == [(rule, "error", "1/model.py", place)]
    assert text in only(checked, rule, "run").text


def test_model_that_crashes_a_server_is_an_error(tmp_path):
    config = CONFIG.replace("dynamic_batching { }", "model_transaction_policy { decoupled: true }")
    code = BY_HAND.replace("        return [self", SENDS_NOTHING)
    # Apart: a harness whose process has ended has no unload, and would leave what it put in place.
    checked = run_apart(tmp_path / "m", code, config)
    assert find(checked, "run")[0][:2] == ("KA405", "error")


def test_model_that_computes_for_ever_is_ended_where_it_is(tmp_path):
    # Enough to be seen to work, and little enough for the tests beside it.
    works = "while True: sum(range(50_000)), __import__('time').sleep(0.01)"
    code = BY_HAND.replace("        return [self", f"        {works}\n        return [self")
    checked = run_apart(tmp_path / "m", code, seconds=20.0)
    assert find(checked, "run") == [("KA404", "error", "1/model.py", 6)]
    assert "within 20 s, in execute" in only(checked, "KA404", "run").text


def test_model_that_waits_for_ever_is_found_before_its_time_is_over(tmp_path):
    code = "import threading\n" + BY_HAND.replace("    def execute", WAITS + "    def execute")
    checked = run_apart(tmp_path / "m", code)
    assert find(checked, "run") == [("KA404", "error", "1/model.py", 7)]
    assert "initialize has not returned" in only(checked, "KA404", "run").text


def test_model_that_prints_keeps_its_result(tmp_path):
    code = BY_HAND.replace("        return [self", "        print('{}', end='')\n        return [self")
    checked = run_apart(tmp_path / "m", code)
    assert find(checked, "run") == [("KA407", "hint", "1/model.py", 6)]
    assert checked.trial.request["outputs"] == {"Y": ["float32", [1, 4]]}


@pytest.mark.parametrize(("written", "asked"), [("KIND_GPU", None), ("KIND_CPU", "GPU")])
def test_gpu_model_is_tried_on_the_cpu_where_there_is_no_gpu(tmp_path, written, asked):
    config = CONFIG.replace("KIND_CPU", written)
    checked = subject(write_model(tmp_path / "m", OURS, config), kind=asked)
    checked.trial = run_trial(checked, TrialOptions())
    assert checked.trial.instances[0]["device"] == "cpu"
    assert find(checked, "run") == []


WITHOUT_WARM_UP = 'parameters { key: "kindaware.warmup" value { string_value: "off" } }\n'
CALLS = OURS.replace("2 * X", "self.call('other', X=X)['Y']")


@pytest.mark.parametrize("named", ["in the code", "in a parameter"])
def test_model_beside_that_is_called_is_loaded_first(tmp_path, named):
    code, config = CALLS, CONFIG + WITHOUT_WARM_UP
    if named == "in a parameter":
        code = code.replace("'other'", "self.parameters['next']")
        config += 'parameters { key: "next" value { string_value: "other" } }\n'
    write_model(tmp_path / "other")
    checked = subject(write_model(tmp_path / "m", code, config))
    checked = run_here(checked.folder, called=[str(one) for one in checked.called()])
    assert find(checked, "run") == []


def test_called_model_that_is_not_there_is_a_warning(tmp_path):
    config = CONFIG + WITHOUT_WARM_UP
    checked = run_here(write_model(tmp_path / "m", CALLS, config))
    found = only(checked, "KA402", "run")
    assert (found.level, found.text) == ("warning", "it calls model 'other', which is not beside it")
