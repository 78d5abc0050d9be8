"""The model's run in a process of its own, which may hang, print, exit or crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kindaware.cli._child import Ended, run_apart
from kindaware.cli.check._subject import Subject, Trial


@dataclass(frozen=True)
class TrialOptions:
    """How a model is run.

    Attributes:
        shapes: of one row, of inputs whose dims have -1.
        parameters: over those of the configuration.
        seconds: how long it may take.
    """

    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 300.0


def run_trial(subject: Subject, options: TrialOptions) -> Trial:
    """Load a model and send it a request; on the CPU where the GPU that it asks for isn't there."""
    is_on_gpu = any(kind == "KIND_GPU" for kind, _, _ in subject.groups())
    kind = "CPU" if is_on_gpu and not subject.machine.num_gpus else subject.kind
    arguments = {
        "directory": str(subject.folder.absolute()),
        "kind": kind,
        "groups": list(range(max(1, len(subject.groups())))),
        "called": [str(one) for one in subject.called()],
        "shapes": {name: list(sizes) for name, sizes in options.shapes.items()},
        "parameters": dict(options.parameters),
    }
    ended = run_apart("kindaware.cli.check._trial_process:try_model", arguments, seconds=options.seconds)
    if ended.result is not None:
        return Trial(**ended.result, output=ended.output)
    return Trial(error=_describe_end(ended, subject, options.seconds), output=ended.output)


def _describe_end(ended: Ended, subject: Subject, seconds: float) -> dict[str, Any]:
    own = [one for one in ended.stack if str(subject.folder.absolute()) in one[0]]
    file, line, function = own[0] if own else ("", 0, "")
    at = f", in {function}" if function else ""
    if ended.is_late:
        text = f"it has not loaded and answered within {seconds:g} s{at}"
        return {"kind": "late", "text": text, "file": file, "line": line}
    return {"kind": "death", "text": f"it {ended.end}{at}", "file": file, "line": line}
