"""Tests as a user of a strict type checker writes them; test_types.py expects no error here either."""

import pytest
import torch
from typed_models import PlacedModel, ScoringModel, SequenceModel, StreamingModel, describe_placement

from kindaware import ConfigError, KindAwareModel
from kindaware.testing import InferenceError, ModelHarness, ModelLoadError, Result, instance_args

NO_BATCHES: dict[str, object] = {"max_batch_size": 0}
DOUBLE = """
backend: "python"
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""


def test_scores_are_probabilities() -> None:
    with ModelHarness(ScoringModel, config={}, kind="CPU", instances=2) as model:
        result: Result = model.infer(IDS=torch.ones(2, 16, dtype=torch.int64), request_id="first")
        model.is_ready()
    assert result.outputs["SCORES"].sum(axis=1) == pytest.approx([1, 1])
    assert result.error is None
    assert "kindaware instance" in model.log_text()


def test_refused_request_fails_alone() -> None:
    good = torch.ones(1, 16, dtype=torch.int64)
    with ModelHarness(ScoringModel, config={}, raise_errors=False) as model:
        answered, refused = model.infer_batch([{"IDS": good}, {"IDS": 1000 * good}])
    assert answered.error is None
    assert refused.error is not None
    assert refused.error.message() == "request : IDS above 999"
    assert dict(refused.outputs) == {}


def test_refused_request_is_raised() -> None:
    with ModelHarness(ScoringModel, config="", parameters={"own": "1"}) as model:
        with pytest.raises(InferenceError, match="IDS above 999") as caught:
            model.infer({"IDS": torch.full((1, 16), 1000)})
        code: str = caught.value.code
    assert code == "INVALID_ARG"


def test_model_that_does_not_load_says_why() -> None:
    harness = ModelHarness(ScoringModel, config={}, parameters={"weights": "lost"})
    with pytest.raises(ModelLoadError, match="parameter weights"):
        harness.start()


def test_stream_has_its_answers() -> None:
    with ModelHarness(StreamingModel, config=NO_BATCHES) as model:
        pieces = [float(result.outputs["Y"][0]) for result in model.stream(X=torch.zeros(1))]
    assert pieces == [0, 1, 2]


def test_sequence_adds_up() -> None:
    config: dict[str, object] = {**NO_BATCHES, "sequence_batching": {}}
    with ModelHarness(SequenceModel, config=config) as model:
        model.infer(X=torch.ones(1), correlation_id=7, flags=1)
        total = model.infer(X=torch.ones(1), correlation_id=7, flags=2)
    assert total.outputs["TOTAL"].tolist() == [2]


def test_model_with_its_own_execute_answers() -> None:
    with ModelHarness(PlacedModel, config=DOUBLE) as model:
        assert model.infer(X=[1.5]).outputs["Y"].tolist() == [3]


def test_initialize_takes_the_arguments_of_an_instance() -> None:
    args: dict[str, str] = instance_args("CPU", config=DOUBLE, name="own", version=2, num_gpus=0)
    model = PlacedModel()
    model.initialize(args)
    assert model.args.instance_name == "own_0"
    assert model.scale.weight.device == model.device
    assert describe_placement(args).startswith("cpu: ")


def test_initialize_without_a_gpu_is_refused() -> None:
    model: KindAwareModel = ScoringModel()
    with pytest.raises(ConfigError, match="GPU"):
        model.initialize(instance_args("GPU", 7))
