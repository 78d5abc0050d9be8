"""Helper functions, ModelConfig, metrics, logs."""

from behaviour import Behaviour, says
from differential_kit import x

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
