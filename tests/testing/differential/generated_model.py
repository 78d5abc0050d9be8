"""An echo of what a request asks for, in all data types and up to five dimensions."""

from differential_models import DATATYPES, PYTHON

RANKS = range(1, 6)
OUTPUTS = ["OUT0", "OUT1", "OUT2", "OUT3"]
INPUTS = [(datatype, rank) for datatype in DATATYPES for rank in RANKS]


def input_name(datatype, rank):
    return f"{datatype}_{rank}"


def config_of(extra, word=""):
    """A configuration with an optional input for every data type and every number of dimensions."""
    inputs = "".join(
        f'input {{ name: "{input_name(datatype, rank)}" data_type: TYPE_{datatype} '
        f"dims: {[-1] * rank} optional: true {word} }}\n"
        for datatype, rank in INPUTS
    )
    outputs = "".join(
        f'output {{ name: "OUT{index}" data_type: TYPE_FP32 dims: -1 }}\n' for index in range(4)
    )
    return PYTHON + inputs + outputs + extra


GENERATED_CONFIG = config_of("")
# Ragged, so that requests of different shapes can share a batch.
GENERATED_ROWS_CONFIG = config_of(
    "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 20000 }", "allow_ragged_batch: true"
)

# `shapes` has a shape for every input's output, `how` says what to do with it, `error` where to fail.
GENERATED = """
class TritonPythonModel:
    def execute(self, requests):
        found = [self.one(request, json.loads(request.parameters())) for request in requests]
        return found

    def one(self, request, wish):
        if wish["error"] == "response":
            return failure(wish["text"], wish["code"])
        if wish["error"] == "raise":
            raise ValueError(wish["text"])
        if wish["error"] == "both":
            return pb_utils.InferenceResponse([tensor(1.0, name="OUT0")], pb_utils.TritonError(wish["text"]))
        inputs = {one.name(): one for one in request.inputs()}
        names, hows, shapes = wish["names"].split(), wish["hows"].split(), json.loads(wish["shapes"])
        found = []
        for index, (name, how, shape) in enumerate(zip(names, hows, shapes)):
            found.append(self.output(f"OUT{index}", inputs[name], how, shape))
            if found[-1].shape() != shape:
                raise AssertionError(f"{found[-1].shape()} is not {shape}")
        return pb_utils.InferenceResponse(found)

    def output(self, name, given, how, shape):
        if how == "dlpack":
            return pb_utils.Tensor.from_dlpack(name, given)
        array = given.as_numpy()
        if how == "reversed":
            return pb_utils.Tensor(name, array[::-1])
        if how == "transposed":
            return pb_utils.Tensor(name, array.T)
        return pb_utils.Tensor(name, array.reshape(shape))
"""
