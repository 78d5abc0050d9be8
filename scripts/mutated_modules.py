"""The modules whose mutants some test must notice, and where it is likely to be."""

from __future__ import annotations

from dataclasses import dataclass

DEVICE = "device"
"""Operators for what guards order and memory on a device: waits, scopes, copies, conditions on a fault."""

LOGIC = "logic"
"""Operators for what decides whose answer is whose: conditions, boundaries, exceptions, calls, states."""


@dataclass(frozen=True, slots=True)
class Mutated:
    """How a module is changed.

    Attributes:
        operators: DEVICE, LOGIC or both.
        tests: where its mutants mostly fail; these run first, then all others.
    """

    operators: frozenset[str]
    tests: tuple[str, ...]


def _device(*tests: str) -> Mutated:
    return Mutated(frozenset({DEVICE}), tests)


def _logic(*tests: str) -> Mutated:
    return Mutated(frozenset({LOGIC}), tests)


def _both(*tests: str) -> Mutated:
    return Mutated(frozenset({DEVICE, LOGIC}), tests)


MODULES = {
    "_tensors/rows": _logic(
        "core/test_row_pieces.py", "core/test_hot_path.py", "core/test_bytes.py", "simulated/test_rows.py"
    ),
    "_device/runtime": _device("core/test_cuda_runtime.py", "simulated/test_order_of_copies.py"),
    "_device/staging": _device(
        "core/test_pinned_staging.py",
        "simulated/test_memory_of_triton.py",
        "simulated/test_order_of_copies.py",
    ),
    "_device/health": _both(
        "core/test_device_fault.py",
        "core/test_pipeline_faults.py",
        "core/test_pipeline_isolation.py",
        "simulated/test_lost_device.py",
    ),
    "_device/device": _both(
        "core/test_nested.py",
        "core/test_device_fault.py",
        "core/test_gpu_instance.py",
        "simulated/test_memory_of_triton.py",
        "simulated/test_state_of_hooks.py",
    ),
    "_device/modules": _device("core/test_loaded_modules.py", "core/test_streams_on_gpu.py"),
    "_device/cuda_graphs": _device("core/test_cuda_graphs.py", "simulated/test_graph_buckets.py"),
    "_device/placed_instance": _both(
        "core/test_thread_budget.py",
        "core/test_placement.py",
        "core/test_openmp.py",
        "core/test_cuda_free.py",
        "simulated/test_state_of_hooks.py",
    ),
    "_placement/device_map": _device("core/test_device_map.py", "simulated/test_several_gpus.py"),
    "_hooks/event_loop": _device(
        "core/test_event_loop.py",
        "core/test_streams.py",
        "core/test_calls.py",
        "simulated/test_calls_on_gpu.py",
    ),
    "_batch/request": _logic(
        "core/test_hot_path.py",
        "core/test_pipeline_isolation.py",
        "core/test_responses.py",
        "core/test_padding.py",
        "core/test_pipeline_property.py",
        "core/test_pipeline_outputs.py",
        "core/test_streams_on_gpu.py",
    ),
    "_batch/results": _logic(
        "core/test_pipeline_isolation.py", "core/test_pipeline_faults.py", "core/test_pipeline_property.py"
    ),
    "_batch/hook_requests": _logic(
        "core/test_request_info.py", "core/test_response_parameters.py", "core/test_sequences.py"
    ),
    "_batch/padding": _both(
        "core/test_padding.py",
        "core/test_produced_inputs.py",
        "core/test_collate_sizes.py",
        "simulated/test_padding_on_gpu.py",
        "simulated/test_text_and_padding.py",
    ),
    "_batch/collate": _logic(
        "core/test_pipeline_outputs.py",
        "core/test_padding.py",
        "core/test_bytes.py",
        "core/test_hot_path.py",
        "core/test_collate_rows.py",
    ),
    "_batch/outputs": _device(
        "core/test_pipeline_outputs.py",
        "core/test_outputs_per_request.py",
        "simulated/test_order_of_copies.py",
    ),
    "_batch/output_stage": _both(
        "core/test_pipeline_outputs.py",
        "core/test_bytes.py",
        "core/test_outputs_per_request.py",
        "simulated/test_order_of_copies.py",
        "simulated/test_copies_to_host.py",
    ),
    "_batch/preprocess": _both(
        "core/test_pipeline_isolation.py",
        "core/test_device_fault.py",
        "core/test_padding.py",
        "core/test_request_info.py",
        "core/test_calls.py",
        "simulated/test_state_of_hooks.py",
        "simulated/test_memory_of_triton.py",
    ),
    "_batch/splitter": _both(
        "core/test_padding.py",
        "core/test_outputs_per_request.py",
        "core/test_collate_sizes.py",
        "simulated/test_padding_on_gpu.py",
        "simulated/test_memory_limits.py",
    ),
    "_batch/runner": _device(
        "core/test_pipeline_faults.py",
        "core/test_device_fault.py",
        "core/test_pipeline_outputs.py",
        "core/test_metrics.py",
        "core/test_padding.py",
        "core/test_cuda_graphs.py",
        "simulated/test_state_of_hooks.py",
        "simulated/test_memory_of_triton.py",
        "simulated/test_memory_limits.py",
        "core/test_calls.py",
        "simulated/test_calls_on_gpu.py",
    ),
    "_batch/graph_recording": _both(
        "core/test_graph_recording.py", "core/test_cuda_graphs.py", "simulated/test_graph_buckets.py"
    ),
    "_batch/pipeline": _both(
        "core/test_pipeline_isolation.py",
        "core/test_pipeline_faults.py",
        "core/test_device_fault.py",
        "core/test_hot_path.py",
        "core/test_padding.py",
        "core/test_metrics.py",
        "core/test_pinned_staging.py",
        "core/test_pipeline_property.py",
        "profile/test_profile_stages.py",
    ),
    "_batch/warmup": _both(
        "core/test_warm_up.py",
        "core/test_cuda_graphs.py",
        "core/test_calls.py",
        "simulated/test_memory_limits.py",
    ),
    "_triton/request": _logic(
        "core/test_hot_path.py", "core/test_request_info.py", "core/test_calls.py", "core/test_fast_path.py"
    ),
    "_triton/request_reader": _both(
        "core/test_triton_adapter.py",
        "core/test_hot_path.py",
        "core/test_sequences.py",
        "core/test_cancellation.py",
        "simulated/test_faults_at_every_call.py",
    ),
    "_triton/response": _both(
        "core/test_triton_adapter.py",
        "core/test_hot_path.py",
        "core/test_response_parameters.py",
        "core/test_sequences.py",
        "core/test_calls.py",
        "core/test_cancellation.py",
        "simulated/test_faults_at_every_call.py",
    ),
    "_triton/tensor": _both("core/test_triton_adapter.py", "core/test_calls.py"),
    "_triton/bls_adapter": _both("core/test_calls.py", "simulated/test_calls_on_gpu.py"),
    "_triton/response_sender": _logic("core/test_responses.py", "core/test_streams.py"),
    "_triton/bls": _both("core/test_calls.py", "simulated/test_calls_on_gpu.py"),
    "_triton/bls_stream": _device("core/test_calls.py", "simulated/test_calls_on_gpu.py"),
    "_execute/client_watch": _logic("core/test_stream_watch.py"),
    "_execute/sequence_state": _logic("core/test_sequences.py"),
    "_execute/sequences": _logic("core/test_sequences.py"),
    "_execute/fast_path": _logic(
        "core/test_fast_path.py", "core/test_cancellation.py", "core/test_metrics.py"
    ),
    "_execute/executor": _logic(
        "core/test_executor.py",
        "core/test_sequences.py",
        "core/test_fast_path.py",
        "core/test_cancellation.py",
        "core/test_response_parameters.py",
        "profile/test_profile_stages.py",
    ),
    "_execute/stream_runner": _device("core/test_streams_on_gpu.py", "core/test_streams.py"),
    "_execute/streams": _device(
        "core/test_streams_on_gpu.py", "core/test_streams.py", "core/test_stream_watch.py"
    ),
    "_instance": _both(
        "core/test_life_cycle.py",
        "core/test_loaded_modules.py",
        "core/test_warm_up.py",
        "core/test_metrics.py",
        "core/test_reload.py",
        "core/test_memory.py",
        "core/test_triton_adapter.py",
        "core/test_gpu_instance.py",
        "simulated/test_order_of_copies.py",
        "simulated/test_state_of_hooks.py",
        "simulated/test_lost_device.py",
    ),
}
"""By the path in the package, in the order of their imports."""

EQUIVALENT = {
    "_execute/sequence_state.py SequenceState.__getitem__: sequence not in self._changed and "
    "self.kept.get...: without self.kept.get(sequence, ABSENT) is not ABSENT": (
        "without a value kept[sequence] raises the same KeyError"
    ),
    "_execute/sequence_state.py _copied: value is ABSENT or isinstance(value, (int, floa...: without "
    "isinstance(value, (int, float, str, bytes, type...": "deepcopy gives the same objects, later",
    "_execute/sequences.py Sequences._settle: isinstance(arrival, Failure) or arrival.info is...: without "
    "isinstance(arrival, Failure)": "_note_unread has done what would be done for a failure",
    "_tensors/rows.py pieces: len(tensor) > num_rows: GtE": "torch.split gives so many rows as one chunk",
    "_batch/collate.py Collator.parts: if self._collate is None and (concatenated := conc...: always False": (
        "the tensors are concatenated by the staging, later"
    ),
    "_batch/collate.py Collator.lengths: self._padding is not None and self._gives_lengths: without "
    "self._padding is not None": "lengths that forward names without pad are refused while the model loads",
    "_batch/collate.py Collator.lengths: self._padding is not None and self._gives_lengths: without "
    "self._gives_lengths": "lengths_argument leaves them out, once they were made and copied for nothing",
    "_batch/collate.py Collator.lengths_argument: self._padding is None or not self._gives_lengths: without "
    "self._padding is None": "lengths that forward names without pad are refused while the model loads",
    "_batch/pipeline.py Pipeline._preprocess: if not self._has_preprocess: always False": (
        "each request comes back as it is, later"
    ),
    "_batch/pipeline.py Pipeline._remember_shapes: if self._is_dynamic: always True": (
        "the shapes of a model whose shapes are fixed are not asked for"
    ),
    "_batch/results.py Ledger.results: if len(answers) == len(self._results): always False": (
        "the answers go to the same places one by one"
    ),
    "_batch/pipeline.py Pipeline._groups: if self._is_uniform: always False": (
        "requests of a uniform model have one shape, so that they are one group, later"
    ),
    "_execute/fast_path.py FastPath._check: if type(returned) is torch.Tensor: always False": (
        "check_outputs says the same, later"
    ),
    "_execute/fast_path.py FastPath._check: if fits and array.flags.c_contiguous: always False": (
        "check_outputs says the same, later"
    ),
}
"""Mutants that no test can notice, by `Mutation.key`, and why. One that fails or is gone is an error."""
