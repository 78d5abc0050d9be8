"""The requests of `model_warmup`; that they are those of a server, tests/testing/differential shows."""

import pytest
from harness_kit import BATCHED, DECOUPLED, ECHO, PLAIN, write_model

from kindaware.testing import ModelHarness, ModelLoadError, TritonContractError


def warmup(dims, data="zero_data: true", batch_size=1):
    value = f"data_type: TYPE_FP32 dims: {dims} {data}"
    inputs = f'inputs {{ key: "X" value {{ {value} }} }}'
    return f'model_warmup {{ name: "w" batch_size: {batch_size} {inputs} }}'


class Counters:
    """Knows how many requests it got before the test's own."""

    def initialize(self, args):
        self.shapes = []

    def execute(self, requests):
        import triton_python_backend_utils as pb_utils

        self.shapes.append([one.inputs()[0].shape() for one in requests])
        return [pb_utils.InferenceResponse([]) for _ in requests]


class Streams:
    def execute(self, requests):
        import triton_python_backend_utils as pb_utils

        for one in requests:
            sender = one.get_response_sender()
            sender.send(pb_utils.InferenceResponse([]))
            sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("late")))
            sender.send(flags=1)


class Silent:
    def execute(self, requests):
        return None


def test_every_instance_gets_the_warmup_requests_before_others():
    with ModelHarness(Counters, config=BATCHED + warmup("[ 3 ]", batch_size=2), instances=2) as harness:
        assert [instance.shapes for instance in harness.instances] == [[[[1, 3], [1, 3]]]] * 2


class Refuses:
    def execute(self, requests):
        import triton_python_backend_utils as pb_utils

        error = pb_utils.TritonError("cold", pb_utils.TritonError.NOT_FOUND)
        return [pb_utils.InferenceResponse(error=error) for _ in requests]


class Raises:
    def execute(self, requests):
        raise ValueError("cold")


def test_warmup_that_is_refused_does_not_load():
    with pytest.raises(ModelLoadError) as raised:
        ModelHarness(Refuses, config=BATCHED + warmup("[ 3 ]", batch_size=2)).start()
    assert str(raised.value).endswith(": Invalid argument: failed to run warmup sample 'w': cold; cold; ;")


def test_warmup_that_raises_does_not_load():
    with pytest.raises(ModelLoadError) as raised:
        ModelHarness(Raises, config=BATCHED + warmup("[ 3 ]", batch_size=2)).start()
    text = "Failed to process the request(s) for model 'model_0', message: ValueError: cold\n\nAt:\n  "
    assert raised.value.reason.startswith(f"failed to run warmup sample 'w': {text}")
    assert raised.value.reason.count(text) == 2


def test_warmup_of_more_requests_than_a_batch_has_does_not_load():
    with pytest.raises(ModelLoadError, match="batch size 9 for 'model_0', max allowed is 8; ") as raised:
        ModelHarness(Counters, config=BATCHED + warmup("[ 3 ]", batch_size=9)).start()
    assert raised.value.reason.count("batch size 9") == 9
    with pytest.raises(ModelLoadError, match="batch size 2 for 'model_0', max allowed is 0; "):
        ModelHarness(Counters, config=PLAIN + warmup("[ 3 ]", batch_size=2)).start()


def test_warmup_of_a_stream_with_an_error_does_not_load():
    with pytest.raises(ModelLoadError, match="Invalid argument: failed to run warmup sample 'w': late; ;"):
        ModelHarness(Streams, config=DECOUPLED + warmup("[ 3 ]")).start()


def test_warmup_that_is_not_answered_is_a_contract_error():
    with pytest.raises(TritonContractError, match="waiting for ever"):
        ModelHarness(Silent, config=PLAIN + warmup("[ 3 ]")).start()


def test_random_warmup_data_are_random():
    class Keeps(Counters):
        def execute(self, requests):
            self.data = requests[0].inputs()[0].as_numpy().copy()
            return super().execute(requests)

    with ModelHarness(Keeps, config=PLAIN + warmup("[ 100 ]", "random_data: true")) as harness:
        assert len(set(harness.instance.data.tobytes())) > 100


def test_warmup_file_of_a_class_is_not_found():
    with pytest.raises(
        ModelLoadError, match="Internal: failed to open text file for read /models/model/warmup/f"
    ):
        ModelHarness(Counters, config=PLAIN + warmup("[ 3 ]", 'input_data_file: "f"')).start()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x05\0\0\0ab", "expecting string of length 5 but only 2 bytes available"),
        (b"\x01\0\0", "incomplete string length indicator for inference input 'X'"),
        (b"", "expected 1 string elements for inference input 'X' for model 'm', got 0"),
    ],
)
def test_warmup_file_of_text_that_does_not_fit_does_not_load(tmp_path, content, text):
    config = PLAIN.replace("TYPE_FP32", "TYPE_STRING") + warmup("[ 1 ]", 'input_data_file: "f"').replace(
        "TYPE_FP32", "TYPE_STRING"
    )
    folder = write_model(tmp_path, "m", ECHO, config)
    (folder / "warmup").mkdir()
    (folder / "warmup" / "f").write_bytes(content)
    with pytest.raises(ModelLoadError, match=text):
        ModelHarness(folder).start()
