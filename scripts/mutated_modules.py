"""The modules whose mutants some test must notice, and the mutants that none can."""

from __future__ import annotations

DEVICE = "device"
"""Operators for what guards order and memory on a device: waits, scopes, copies, conditions on a fault."""

LOGIC = "logic"
"""Operators for what decides whose answer is whose: conditions, boundaries, exceptions, calls, states."""

BOTH = frozenset({DEVICE, LOGIC})

MODULES = {
    "_tensors/rows": frozenset({LOGIC}),
    "_device/runtime": frozenset({DEVICE}),
    "_device/staging": BOTH,
    "_device/health": BOTH,
    "_device/device": BOTH,
    "_device/modules": frozenset({DEVICE}),
    "_device/weights": BOTH,
    "_device/compiled_modules": BOTH,
    "_device/cuda_graphs": frozenset({DEVICE}),
    "_device/placed_instance": BOTH,
    "_placement/device_map": frozenset({DEVICE}),
    "_hooks/event_loop": frozenset({DEVICE}),
    "_hooks/step_results": frozenset({LOGIC}),
    "_batch/request": frozenset({LOGIC}),
    "_batch/named_rows": frozenset({LOGIC}),
    "_batch/results": frozenset({LOGIC}),
    "_batch/forward_cost": frozenset({LOGIC}),
    "_batch/row_limit": frozenset({LOGIC}),
    "_batch/hook_requests": frozenset({LOGIC}),
    "_batch/padding": BOTH,
    "_batch/collate": frozenset({LOGIC}),
    "_batch/outputs": BOTH,
    "_batch/output_stage": BOTH,
    "_batch/preprocess": BOTH,
    "_batch/splitter": BOTH,
    "_batch/buckets": frozenset({LOGIC}),
    "_batch/micro_batches": frozenset({LOGIC}),
    "_batch/runner": BOTH,
    "_batch/graph_recording": BOTH,
    "_batch/pipeline": BOTH,
    "_batch/warmup": BOTH,
    "_tuning/optimizer": frozenset({LOGIC}),
    "_tuning/kept_choice": frozenset({LOGIC}),
    "_triton/request": frozenset({LOGIC}),
    "_triton/request_reader": BOTH,
    "_triton/response": BOTH,
    "_triton/tensor": BOTH,
    "_triton/bls_adapter": BOTH,
    "_triton/response_sender": frozenset({LOGIC}),
    "_triton/bls": BOTH,
    "_triton/bls_stream": frozenset({DEVICE}),
    "states": BOTH,
    "_execute/client_watch": frozenset({LOGIC}),
    "_execute/sequence_state": frozenset({LOGIC}),
    "_execute/sequences": frozenset({LOGIC}),
    "_execute/fast_path": frozenset({LOGIC}),
    "_execute/executor": frozenset({LOGIC}),
    "_execute/overlapping_executor": BOTH,
    "_execute/open_stream": frozenset({LOGIC}),
    "_execute/item_sender": BOTH,
    "_execute/work_thread": BOTH,
    "_execute/stream_arrivals": frozenset({LOGIC}),
    "_execute/stream_runner": BOTH,
    "_execute/streams": BOTH,
    "_execute/step_graphs": BOTH,
    "_execute/step_isolation": BOTH,
    "_execute/step_runner": BOTH,
    "_execute/begins": BOTH,
    "_execute/steps": BOTH,
    "_instance": BOTH,
}
"""The operators of each module, by its path in the package, in the order of their imports."""

EQUIVALENT = {
    "_execute/step_runner.py StepRunner._join: if not all((isinstance(one, torch.Tensor) and (not...: always "
    "False": "what is no tensor can't be concatenated, and the items are taken apart then",
    "_execute/step_runner.py StepRunner._join: isinstance(one, torch.Tensor) and (not one.is_n...: without "
    "isinstance(one, torch.Tensor)": "it raises, and the items are taken apart then",
    "_execute/step_runner.py StepRunner._join: isinstance(one, torch.Tensor) and (not one.is_n...: without "
    "not one.is_nested": "a nested tensor has no shape, and the items are taken apart then",
    "_execute/step_runner.py StepRunner._join: one.ndim != rank or len(one) != request.rows: without "
    "one.ndim != rank": "concatenated, items of a wrong rank fail their check, and are taken apart then",
    "_execute/step_runner.py StepRunner._join: if len({one.shape[1:] for one in values}) > 1: always False": (
        "concatenating raises, and the items are taken apart then"
    ),
    "_execute/step_runner.py StepRunner._join: if output.dtype.torch is None: always False": (
        "an array has no device, and the items are taken apart then"
    ),
    "_device/weights.py _tied: for all, not only if len(group) > 1": (
        "a tensor with one name takes its own place, later"
    ),
    "_device/weights.py _tied: len(group) > 1: GtE": "a tensor with one name takes its own place, later",
    "_device/staging.py OverlappingStaging.begin_call: if self._flight is None: always True": (
        "a call that begins has no buffers for outputs, unless an error left some, whose copies are pending"
    ),
    "_device/staging.py _is_on_host: isinstance(value, (list, tuple)) and value and ...: without "
    "isinstance(value[0], torch.Tensor)": "a list of texts has no tensor either, found one by one",
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
    "_batch/padding.py Padding.pad: name not in self.fills or len({value.shape[1:] ...: without name not in "
    "self.fills": "inputs that pad does not name have one size in a batch",
    "_batch/collate.py Collator.parts: if self._may_be_ragged: always True": (
        "where no rows are apart, joinable gives the same tensors, in a new list"
    ),
    "_batch/preprocess.py Preprocessor.run: if not self.has_hooks: always False": (
        "without hooks the request comes back as it is, later"
    ),
    "_batch/outputs.py name_outputs: if isinstance(returned, torch.Tensor) and len(spec...: always False": (
        "it is named like any other form, later"
    ),
    "_batch/outputs.py _check_shape: row_shape != declared.shape and (not declared.f...: without row_shape "
    "!= declared.shape": "declared.fits says the same, later",
    "_batch/runner.py BatchRunner.run: if not self.device.runtime.is_host: always True": (
        "nothing is copied on the host, so that 0 bytes are added"
    ),
    "_batch/runner.py BatchRunner._extras: if not self._plan.hooks.call.extras: always False": (
        "forward gets nothing that it doesn't name, later"
    ),
    "_batch/runner.py BatchRunner._forward: if self._converts: always True": (
        "prepare_input gives each input as it is, later"
    ),
    "_tuning/optimizer.py _error: if ours.shape != theirs.shape: always False": (
        "arrays of different shapes are not equal in which values are finite, nor in their values, later"
    ),
    "_batch/pipeline.py Pipeline._preprocess: if not self._preprocessor.has_hooks: always False": (
        "each request comes back as it is, later"
    ),
    "_batch/pipeline.py Pipeline._remember_shapes: if self._is_dynamic: always True": (
        "the shapes of a model whose shapes are fixed are not asked for"
    ),
    "_batch/results.py Ledger.results: if len(answers) == len(self._results): always False": (
        "the answers go to the same places one by one"
    ),
    "_batch/pipeline.py Pipeline._shared: if self._is_uniform: always False": (
        "requests of a uniform model have one shape, so that they are one group, later"
    ),
    "_execute/streams.py Streams._send_all: stream.unsent or self._failures.cancelled(request): without "
    "stream.unsent": "who sends the end sends `unsent` in place of any other failure",
    "_execute/streams.py Streams._count: if isinstance(arrival, Request): always True": (
        "what could not be read has a failure"
    ),
    "_instance.py Instance._call: self._loop is None or not is_asynchronous(hook): without "
    "self._loop is None": "without a loop no hook is asynchronous",
    "_instance.py Instance._bind_hooks: self._loop is not None and is_async and (not se...: without "
    "self._loop is not None": "with an asynchronous hook of requests there is a loop",
    "_execute/overlapping_executor.py OverlappingExecutor._respond_late: if self._may_have_parameters: "
    "always True": "where no hook gets requests, none has parameters",
}
"""Mutants that no test can notice, by `Mutation.key`, and why. One that fails or is gone is an error."""
