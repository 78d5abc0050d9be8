"""Requests as the model sees them, and what the server refuses before that."""

import numpy as np
from behaviour import Behaviour, says
from differential_kit import ask, x

from kindaware.testing.stand_in import WireTensor

A, B = np.ones((2, 3), np.float32), np.ones(2, np.int32)
ROWS = np.ones((2, 3), np.float32)

FIELDS = """
    return [report(request.request_id(), request.correlation_id(), request.flags(), request.timeout(),
                   {k: v for k, v in json.loads(request.parameters()).items() if k != "case"},
                   request.requested_output_names())]
"""


def fields(*asks):
    return Behaviour(FIELDS, asks)


REQUESTS = {
    "request_fields_unset": fields(x()),
    "request_id": fields(x(request_id="abc"), x(request_id='é "quoted"')),
    "correlation_id_number": fields(x(correlation_id=7), x(correlation_id=2**40)),
    "correlation_id_text": fields(x(correlation_id="seq one")),
    "flags_of_sequences": fields(*(x(correlation_id=3, flags=flags) for flags in range(4))),
    "timeout": fields(x(timeout=5_000_000), x(timeout=1 << 40)),
    "parameters_of_all_types": fields(
        x(parameters={"i": -3, "b": True, "s": 'text " é', "d": 1.25, "big": 2**60, "e": ""})
    ),
    "requested_output_names": fields(
        x(requested_outputs=["TEXT"]),
        x(requested_outputs=["TEXT", "Y"]),
        x(requested_outputs=["TEXT", "TEXT"]),
    ),
    "request_getters_types": says("""
        type(request.inputs()).__name__
        type(request.requested_output_names()).__name__
        type(request.parameters()).__name__
        request.trace().get_context()
        type(request.trace()).__name__
        request.is_cancelled()
        request.get_response_sender() is request.get_response_sender()
        type(request.get_response_sender()).__name__
        request.model_name()
        request.preferred_memory()
        request.priority()
        request.set_release_flags(flags=1)
        request.set_release_flags("1")
        (request.set_flags(5), request.flags())
        request.set_flags(-1)
        request.set_flags("1")
    """),
    "request_parameters_text": Behaviour("return [report(request.parameters())]", (x(),)),
    "request_constructor_refusals": says("""
        new(request_id=None)
        new(request_id=b"ab").request_id()
        new(correlation_id=1.5)
        new(correlation_id=None)
        new(correlation_id=b"x")
        new(correlation_id=-1)
        new(correlation_id=2**64)
        new(correlation_id=True).correlation_id()
        new(correlation_id="t").correlation_id()
        InferenceRequest(model_name="m", requested_output_names=[], inputs=None)
        InferenceRequest(model_name="m", requested_output_names=[], inputs=[None])
        InferenceRequest(model_name="m", requested_output_names=[])
        InferenceRequest(model_name="m", requested_output_names="Y", inputs=[])
        InferenceRequest(model_name="m", requested_output_names={"Y"}, inputs=[])
        InferenceRequest(model_name="m", requested_output_names=[None], inputs=[])
        new(request_id="r", outputs=[""])
        new(model=None)
        new(flags=-1)
        new(timeout=-1)
        new(timeout=1.0)
        new(preferred_memory=None)
        new(trace=None)
        new(unknown=1)
    """),
    "request_constructor_parameters": says("""
        new(parameters=[1])
        new(parameters={1: "x"})
        new(parameters={"a": 1.5})
        new(parameters={"a": None})
        new(parameters={"a": 1, "b": True, "c": "x"}).parameters()
        new(parameters={}).parameters()
        new(parameters=None).parameters()
        new().parameters()
    """),
    "request_constructor_getters": says("""
        new(outputs=["Y", "Z", "Y"]).requested_output_names()
        new(flags=3, timeout=9, request_id="r").flags()
        new(timeout=9).timeout()
        new(inputs=(tensor(1.0),)).inputs()[0].as_numpy()
        new().inputs()
        new().correlation_id()
    """),
    "helpers_of_requests": says(
        """
        pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        pb_utils.get_input_tensor_by_name(request, "NO")
        pb_utils.get_output_tensor_by_name(report(1), "TEXT").shape()
        pb_utils.get_output_tensor_by_name(report(1), "NO")
        pb_utils.get_input_config_by_name(config, "X")
        pb_utils.get_output_config_by_name(config, "Y")
        pb_utils.get_output_config_by_name(config, "NO")
        pb_utils.using_decoupled_model_transaction_policy(config)
        pb_utils.using_decoupled_model_transaction_policy({"model_transaction_policy": {}})
        """,
        setup='config = json.loads(self.args["model_config"])',
        names="config=config",
    ),
    "arguments_of_initialize": says(
        """
        sorted(args)
        {key: text for key, text in args.items() if key != "model_config"}
        json.loads(args["model_config"])
        pb_utils.get_model_dir() == args["model_repository"] + "/1"
        __name__, __package__
        """,
        names="args=self.args",
    ),
    "absent_optional_inputs": Behaviour(
        "return [report(sorted(one.name() for one in request.inputs()))]",
        (ask(), x(), ask(inputs={"X": np.zeros(1, np.float32), "IN_INT8": np.zeros(0, np.int8)})),
    ),
}

VALIDATION = {
    "input_of_unknown_name": Behaviour(
        "", (ask("strict", {"A": A, "Q": B}), ask("strict", {"A": A, "B": B, "Q": B}), x(model="strict"))
    ),
    "input_is_missing": Behaviour(
        "", (ask("strict"), ask("strict", {"A": A}), ask("strict", {"B": B}, request_id="r7"))
    ),
    "input_of_other_type": Behaviour(
        "", (ask("strict", {"A": A.astype(np.float64), "B": B}), ask("strict", {"A": A, "B": B.astype(bool)}))
    ),
    "input_of_other_shape": Behaviour(
        "",
        (
            ask("strict", {"A": A.T, "B": B}),
            ask("strict", {"A": A[0], "B": B}),
            ask("strict", {"A": A, "B": B.reshape(2, 1)}, request_id="r8"),
            ask("strict", {"A": np.float32(1).reshape(()), "B": B}),
        ),
    ),
    "input_of_text_that_is_cut_short": Behaviour(
        "",
        tuple(
            ask("runner", {"IN_STRING": WireTensor("IN_STRING", "BYTES", (1,), data)})
            for data in (b"\x05\0\0\0ab", b"\x01\0\0", b"\x01\0\0\0a\x01\0\0", b"\xff\xff\xff\xffa")
        ),
    ),
    "input_without_elements": Behaviour("", (ask("strict", {"A": A[:, :0], "B": B[:0]}),)),
    "output_of_unknown_name": Behaviour("", (ask("strict", {"A": A, "B": B}, requested_outputs=["NO"]),)),
    "rows_fit": Behaviour(
        "", (ask("rows", {"A": np.ones((4, 2, 3), np.float32), "B": np.ones((4, 1), np.int32)}),)
    ),
    "rows_too_many": Behaviour(
        "", (ask("rows", {"A": np.ones((5, 2, 3), np.float32), "B": np.ones((5, 1), np.int32)}),)
    ),
    "rows_differ": Behaviour(
        "", (ask("rows", {"A": np.ones((2, 2, 3), np.float32), "B": np.ones((3, 1), np.int32)}),)
    ),
    "rows_missing_dimension": Behaviour("", (ask("rows", {"A": A, "B": np.ones((2, 1), np.int32)}),)),
    "rows_zero_of_one_input": Behaviour(
        "", (ask("rows", {"A": np.ones((0, 2, 3), np.float32), "B": np.ones((3, 1), np.int32)}),)
    ),
    "model_that_is_decoupled_gets_unary_request": Behaviour("", (x(model="streams"),)),
}
