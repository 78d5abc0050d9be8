"""Where a server would hang or crash, the harness says so, whatever the model caught."""

import pytest
from harness_cases import model
from harness_kit import BATCHED, DECOUPLED, PLAIN, floats, write_model

from kindaware.testing import ModelHarness, TritonContractError

X = {"X": floats(2)}


def run(tmp_path, source, config=PLAIN, inputs=X, **options):
    folder = write_model(tmp_path, "m", source, config)
    with ModelHarness(folder, raise_errors=False, **options) as harness:
        return harness.infer(inputs)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("return [None]", "leave the client waiting for ever: request 'r' got no answer"),
        ("return None", "leave the client waiting for ever: request 'r' got no answer"),
        (
            "requests[0].get_response_sender().send(answer([1.0]))\nreturn [None]",
            "leave the client waiting for ever: request 'r' got 1 responses, but no FINAL",
        ),
        (
            "requests[0].set_release_flags(2)\nreturn [None]",
            "a request was rescheduled, and the model's config",
        ),
        ("requests.clear()\nreturn []", "crash: execute changed the list of requests"),
        (
            "requests.append(requests[0])\nreturn [answer([1.0])]",
            "crash: execute changed the list of requests",
        ),
        (
            "requests[0].get_response_sender().send(answer([1.0]), 1)\nraise ValueError",
            "free the request's response factory twice",
        ),
        (
            "requests[0].get_response_sender().send(answer([1.0]), 1)\n"
            "try:\n    requests[0].is_cancelled()\nexcept Exception:\n    pass\nreturn [None]",
            r"is_cancelled\(\) after the request was answered",
        ),
    ],
)
def test_infer_of_a_model_that_hangs_or_crashes_raises(tmp_path, body, text):
    folder = write_model(tmp_path, "m", model(body))
    with (
        pytest.raises(TritonContractError, match=text),
        ModelHarness(folder, raise_errors=False) as harness,
    ):
        harness.infer(X, request_id="r")


def test_infer_batch_with_one_response_object_for_two_requests_raises(tmp_path):
    folder = write_model(tmp_path, "m", model("one = answer([1.0])\nreturn [one, one]"), BATCHED)
    with (
        pytest.raises(
            TritonContractError, match="one InferenceResponse object was returned for two requests"
        ),
        ModelHarness(folder) as harness,
    ):
        harness.infer_batch([{"X": floats(1, 2)}, {"X": floats(1, 2)}])


@pytest.mark.parametrize(
    "source",
    [
        model("return None"),
        "class TritonPythonModel:\n    async def execute(self, requests):\n        raise ValueError\n",
        model("requests[0].get_response_sender().send(answer([1.0]))"),
    ],
)
def test_stream_without_a_final_response_raises(tmp_path, source):
    folder = write_model(tmp_path, "m", source, DECOUPLED)
    with pytest.raises(TritonContractError, match="waiting for ever"), ModelHarness(folder) as harness:
        list(harness.stream(X))


def test_infer_of_a_thread_that_takes_too_long_raises_after_the_timeout(tmp_path):
    source = model("threading.Thread(target=time.sleep, args=(0.6,)).start()\nreturn None")
    with pytest.raises(TritonContractError, match="waiting for ever"):
        run(tmp_path, source, hang_timeout_seconds=0.2)


def test_infer_without_rows_and_elements_raises(tmp_path):
    with pytest.raises(TritonContractError, match="has no rows and no elements"):
        run(tmp_path, model("raise ValueError"), BATCHED, {"X": floats(0, 0)})


def test_infer_rescheduling_for_ever_raises(tmp_path):
    source = model("requests[0].set_release_flags(2)\nreturn [None]")
    with pytest.raises(TritonContractError, match="rescheduled 10000 times"):
        run(tmp_path, source, PLAIN + "sequence_batching { iterative_sequence: true }")


def test_a_violation_in_finalize_leaves_the_block(tmp_path):
    source = model("self.kept = requests[0]\nreturn [answer([1.0])]") + (
        "\n    def finalize(self):\n        try:\n            self.kept.is_cancelled()\n"
        "        except Exception:\n            pass\n"
    )
    folder = write_model(tmp_path, "m", source)
    harness = ModelHarness(folder).start()
    harness.infer(X)
    with pytest.raises(TritonContractError, match="is_cancelled"):
        harness.stop()


def test_a_violation_while_loading_leaves_the_constructor_of_the_block(tmp_path):
    source = """
    class TritonPythonModel:
        def initialize(self, args):
            try:
                pb_utils.InferenceRequest(inputs=[], requested_output_names=[], model_name="m").is_cancelled()
            except Exception:
                pass
    """
    folder = write_model(tmp_path, "m", source)
    with pytest.raises(TritonContractError, match="a request that the model built"):
        ModelHarness(folder).start()
