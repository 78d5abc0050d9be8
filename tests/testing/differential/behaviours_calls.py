"""Streams, calls between models, helpers, ModelConfig, metrics, logs."""

from behaviour import Behaviour, says
from differential_kit import x


def stream(body, *asks, is_async=False):
    return Behaviour(body, tuple(asks) or (x(model="streams"),), "streams", is_async)


START = "s = request.get_response_sender()\n"

STREAMS = {
    "stream_without_responses": stream(START + "s.send(flags=1)"),
    "stream_of_one": stream(START + "s.send(answer(get(request)), 1)"),
    "stream_of_three_and_final": stream(
        START + "for index in range(3):\n    s.send(answer(get(request) + index))\ns.send(flags=1)"
    ),
    "stream_of_three_last_is_final": stream(
        START + "for index in range(3):\n    s.send(answer(get(request) + index), int(index == 2))"
    ),
    "stream_from_thread": stream("""
        def work():
            sender = request.get_response_sender()
            for index in range(3):
                time.sleep(0.01)
                sender.send(answer(get(request) - index))
            sender.send(flags=1)
        threading.Thread(target=work).start()
    """),
    "stream_from_coroutine": stream(
        START
        + "for index in range(3):\n    await asyncio.sleep(0.01)\n    s.send(answer(get(request) - index))\n"
        + "s.send(flags=1)\nreturn ['ignored']",
        is_async=True,
    ),
    "stream_with_error_in_the_middle": stream(
        START + "s.send(answer([1]))\ns.send(failure('in between'))\ns.send(answer([2]), 1)"
    ),
    "stream_error_is_final": stream(START + "s.send(answer([1]))\ns.send(failure('last'), 1)"),
    "stream_prunes": stream(
        START + "s.send(report(1))\ns.send(answer([2]))\ns.send(flags=1)",
        x(model="streams", requested_outputs=["Y"]),
    ),
    "stream_returns_empty_list": stream("return []"),
    "stream_returns_responses": stream("return [answer([1])]"),
    "stream_raises": stream("raise ValueError('boom')"),
    "stream_raises_after_a_response": stream(START + "s.send(answer([1]))\nraise ValueError('boom')"),
    "stream_refuses_after_final": stream("""
        s = request.get_response_sender()
        s.send(answer([1]))
        found = tries('''
            s.send()
            s.send(flags=2)
            s.send("x")
            s.is_cancelled()
        ''', s=s)
        s.send(report(found), 1)
        self.kept.append(tries('''
            s.send(answer([1]))
            s.send(flags=1)
            s.send()
        ''', s=s))
    """),
    "stream_refusals_told": stream(START + "s.send(report(self.kept.pop()), 1)"),
}


def calls(expression, setup=""):
    """What the responses of calls to other models look like."""
    return Behaviour(f"{setup}\nreturn [report({expression})]")


CALLS = {
    "call_gives_outputs": calls("told(new([tensor(1.0, 2.0)]).exec())"),
    "call_asks_for_one_output": calls("told(new([tensor(1.0)], ['Z']).exec())"),
    "call_passes_fields_on": calls(
        "told(new([tensor(1.0)], ['TEXT'], request_id='i', correlation_id=5, flags=1, timeout=7, "
        "parameters={'p': 1, 'q': True, 's': 'x'}).exec())"
    ),
    "call_of_unknown_model": calls("told(new([tensor(1.0)], model='nobody').exec())"),
    "call_of_unknown_version": calls("told(new([tensor(1.0)], model_version=9).exec())"),
    "call_of_known_version": calls("told(new([tensor(1.0)], ['Y'], model_version=1).exec())"),
    "call_with_unknown_output": calls("told(new([tensor(1.0)], ['NO']).exec())"),
    "call_with_unknown_input": calls("told(new([tensor(1.0, name='NO')]).exec())"),
    "call_without_inputs": calls("told(new().exec())"),
    "call_with_other_type": calls("told(new([tensor(1.0, dtype=np.float64)]).exec())"),
    "call_with_other_shape": calls("told(new([pb_utils.Tensor('X', np.ones((2, 2), np.float32))]).exec())"),
    "call_with_the_same_input_twice": calls("told(new([tensor(1.0), tensor(2.0)]).exec())"),
    "call_is_answered_with_error": calls(
        "[told(new([tensor(1.0)], parameters={'code': c}).exec()) for c in ('INTERNAL', 'NOT_FOUND')]"
    ),
    "call_whose_model_raises": calls("told(new([tensor(1.0)], parameters={'raise': 1}).exec())"),
    "call_with_decoupled_kinds_of_arguments": calls(
        "tries('new([tensor(1.0)]).exec(decoupled=None)\\nnew([tensor(1.0)]).exec(decoupled=\"x\")')"
    ),
    "call_input_of_the_client_passed_on": calls(
        "told(new([pb_utils.Tensor.from_dlpack('X', request.inputs()[0])], ['Y']).exec())"
    ),
    "call_repeated_sends_its_first_data": calls(
        "told(first), told(call.exec())",
        "a = np.zeros(2, np.float32)\ncall = new([pb_utils.Tensor('X', a)], ['Y'])\n"
        "first = call.exec()\na[:] = 5",
    ),
    "call_output_becomes_answer": Behaviour(
        "return [pb_utils.InferenceResponse(new([tensor(3.0)], ['Y', 'Z']).exec().output_tensors())]"
    ),
    "call_async_gathered": Behaviour(
        "found = await asyncio.gather(*(new([tensor(float(i))], ['Y']).async_exec() for i in range(4)))\n"
        "return [report(*map(told, found))]",
        is_async=True,
    ),
    "call_async_of_unknown_model": Behaviour(
        "return [report(told(await new([tensor(1.0)], model='nobody').async_exec()))]", is_async=True
    ),
    "call_async_without_loop": calls("attempt(lambda: new([tensor(1.0)]).async_exec())"),
    "call_of_decoupled_model_as_if_it_were_not": calls(
        "told(new([tensor(1.0)], model='streams', parameters={'case': 'stream_of_one'}).exec())"
    ),
    **{
        f"call_of_{case}": calls(
            f"*map(told, new([tensor(1.0)], ['Y'], 'streams', parameters={{'case': '{case}'}})"
            ".exec(decoupled=True))"
        )
        for case in (
            "stream_without_responses",
            "stream_of_one",
            "stream_of_three_and_final",
            "stream_raises",
        )
    },
    "call_of_plain_model_as_decoupled": calls(
        "type(found).__name__, *map(told, found)", "found = new([tensor(1.0)], ['Y']).exec(decoupled=True)"
    ),
    "call_iterator_by_hand": calls(
        "tries('iter(i) is i\\ntold(next(i))\\n list(map(told, i))\\nnext(i)\\n"
        'hasattr(i, "__len__")\\n[told(one) for one in i]\', i=i)',
        "call = new([tensor(1.0)], ['Y'], 'streams', parameters={'case': 'stream_of_three_and_final'})\n"
        "i = call.exec(decoupled=True)",
    ),
    "call_async_of_stream": Behaviour(
        "i = await new([tensor(1.0)], ['Y'], 'streams', parameters={'case': 'stream_from_coroutine'})"
        ".async_exec(decoupled=True)\nreturn [report(*map(told, i))]",
        is_async=True,
    ),
    "sender_of_a_built_request": calls(
        "tries('s.send(answer([1]), 1)\\ns.send(flags=1)\\ns.send()', s=new().get_response_sender())"
    ),
}

CONFIG = '{"name": "m", "input": [], "output": [], "max_batch_size": 0}'
FULL = (
    '{"name": "m", "max_batch_size": 8, "sequence_batching": {},'
    ' "model_transaction_policy": {"decoupled": true},'
    ' "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [1]}],'
    ' "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": []}]}'
)

HELPERS = {
    "type_helpers": says("""
        [pb_utils.triton_to_numpy_type(number) for number in range(0, 16)]
        [pb_utils.numpy_to_triton_type(t) for t in (np.bool_, np.float16, np.int8, np.uint64, np.object_)]
        [pb_utils.numpy_to_triton_type(t) for t in (bool, int, float, object, "f4", np.complex64)]
        pb_utils.numpy_to_triton_type(np.dtype("f4"))
        [pb_utils.triton_string_to_numpy("TYPE_" + t) for t in ("BOOL", "STRING", "FP16", "INT64")]
        pb_utils.triton_string_to_numpy("TYPE_BF16")
        pb_utils.triton_string_to_numpy("FP32")
        sorted(pb_utils.TRITON_STRING_TO_NUMPY)
    """),
    "bytes_helpers": says("""
        pb_utils.serialize_byte_tensor(np.array([b"a", "é", 1, None], dtype=object))
        pb_utils.serialize_byte_tensor(np.array([[b"a", b"bc"]]))
        pb_utils.serialize_byte_tensor(np.array([], dtype=object))
        pb_utils.serialize_byte_tensor(np.array([1]))
        pb_utils.deserialize_bytes_tensor(bytes([1, 0, 0, 0, 97, 0, 0, 0, 0]))
        pb_utils.deserialize_bytes_tensor(b"")
        pb_utils.deserialize_bytes_tensor(bytes([9, 0, 0, 0, 97]))
    """),
    "module_constants": says("""
        pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START, pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END
        pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        pb_utils.TRITONSERVER_REQUEST_RELEASE_ALL, pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE
        pb_utils.TRITONSERVER_MEMORY_GPU, pb_utils.TRITONSERVER_MEMORY_CPU
        [hasattr(pb_utils, n) for n in ("Metric", "MetricKind", "MemoryType", "InferenceResponseSender")]
        [hasattr(pb_utils, n) for n in ("np", "json", "struct", "Logger", "is_model_ready", "get_model_dir")]
    """),
    "model_readiness": says("""
        pb_utils.is_model_ready("callee")
        pb_utils.is_model_ready("callee", "1")
        pb_utils.is_model_ready("callee", 1)
        pb_utils.is_model_ready(None)
    """),
    "preferred_memory": says("""
        PreferredMemory(TRITONSERVER_MEMORY_CPU)
        PreferredMemory(TRITONSERVER_MEMORY_GPU, 1)
        PreferredMemory(1)
        PreferredMemory()
        PreferredMemory(preferred_memory_type=TRITONSERVER_MEMORY_CPU, preferred_device_id=0)
        PreferredMemory(TRITONSERVER_MEMORY_CPU, "0")
        told(new([tensor(1.0)], ["Y"], preferred_memory=PreferredMemory(TRITONSERVER_MEMORY_CPU)).exec())
    """),
    "config_inputs_and_outputs": says(
        """
        c.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": [2]})
        c.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": [2], "optional": True})
        c.add_input({"name": "A", "data_type": "TYPE_INT8", "dims": [2]})
        c.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": [3]})
        c.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": (2,)})
        c.add_input({"name": "B", "data_type": "TYPE_FP32"})
        c.add_input({"name": "B", "dims": [1]})
        c.add_input({"data_type": "TYPE_FP32", "dims": [1]})
        c.add_input({"name": "B", "data_type": "TYPE_FP32", "dims": [1], "reshape": {}})
        c.add_output({"name": "Y", "data_type": "TYPE_FP32", "dims": [1], "optional": True})
        c.add_output({"name": "Y", "data_type": "TYPE_FP32", "dims": [1]})
        c.add_output({"name": "Y", "data_type": "TYPE_FP16", "dims": [1]})
        c
        """,
        setup=f"c = pb_utils.ModelConfig('{CONFIG}')",
        names="c=c",
    ),
    "config_batching_and_policy": says(
        """
        c.set_max_batch_size(4)
        c.set_max_batch_size(8)
        c.set_max_batch_size(16)
        c.set_dynamic_batching()
        c.set_model_transaction_policy({"decoupled": True})
        c.set_model_transaction_policy({"decoupled": False})
        c.set_model_transaction_policy({"other": 1})
        c.add_input({"name": "X", "data_type": "TYPE_FP32", "dims": [2]})
        c.add_output({"name": "Y", "data_type": "TYPE_FP32", "dims": [7]})
        e.set_dynamic_batching()
        e.set_model_transaction_policy({"decoupled": True})
        shown(c)
        shown(e)
        """,
        setup=f"c, e = pb_utils.ModelConfig('{FULL}'), pb_utils.ModelConfig('{CONFIG}')",
        names="c=c, e=e",
    ),
    "metric_family_arguments": says("""
        MetricFamily("name")
        MetricFamily(name="name", description="d", kind=None)
        MetricFamily(name="name", description="d", kind=0)
        [MetricFamily.COUNTER, MetricFamily.GAUGE, MetricFamily.HISTOGRAM]
        Logger()
    """),
    "metric_values": Behaviour(
        """
        kept = self.families = getattr(self, "families", None) or make_families()
        counter, gauge = (family.Metric(labels={"l": "a b"}) for family in kept[:2])
        counter.increment(2)
        counter.increment(True)
        gauge.set(5.5)
        gauge.increment(-1)
        kept[3].observe(0.3)
        kept[3].observe(7)
        return [report(counter.value(), gauge.value(), kept[0].Metric(labels={"l": "a b"}).value(),
                       kept[1].Metric().value())]
        """,
        (x(), x()),
    ),
    "logged_lines": Behaviour(
        """
        log = pb_utils.Logger
        log.log_info("plain")
        log.log_warn("100% {brace} é")
        log.log_error("two\\nlines")
        log.log_verbose("not shown")
        log.log("by level", log.WARNING)
        log.log("by default")
        log.log(message="named", level=log.ERROR)
        log.log_info(b"bytes")
        return [report(tries('''
            Logger.log_info(1)
            Logger.log_info(None)
            Logger.log("x", 1)
            Logger.log("x", None)
            Logger.log_info()
            [Logger.INFO, Logger.WARNING, Logger.ERROR, Logger.VERBOSE]
        '''))]
        """,
        logs=True,
    ),
    "logged_failure_of_execute": Behaviour("raise ValueError('for the log')", logs=True),
}
