"""What can be read out of a server's log: why models failed, and what ready instances said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

_RECORD = re.compile(r"^(?P<level>[EWIV])\d{4} [\d:.]+ +\d+ [^\s\]]+\] (?P<text>.*)$")
_FAILURE = re.compile(
    r"failed to load '(?P<model>.+?)' version (?P<version>-?\d+): (?P<reason>.*)"
    r"|failed to load model '(?P<unversioned>.+?)': (?P<unversioned_reason>.*)"
    r"|Poll failed for model directory '(?P<directory>.+?)': (?P<poll_reason>.*)",
    re.DOTALL,
)
_BAD_TEXT = re.compile(r"Error parsing text-format inference\.ModelConfig: (?P<place>\d+:\d+): (?P<text>.*)")
"""What protobuf prints on a line of its own, before the server says which file it was."""
_LOADING = re.compile(r"loading: (?P<model>.+):-?\d+$")
_LOADED = re.compile(r"(?:successfully loaded|failed to load) '(?P<model>.+?)'")
_STUB_FAILURE = re.compile(
    r"(?P<text>Python model file not found in '(?P<path>[^']*)'"
    r"|triton_python_backend_stub: error while loading shared libraries: .*)"
)
_INSTANCE = re.compile(
    r"kindaware instance (?P<name>.+?) ready: kind (?P<kind>CPU|GPU|MODEL), "
    r"device (?P<device>[^\s,]+(?:,[^\s,]+)*),.*? threads (?P<threads>\d+) \((?P<reason>.*?)\), "
    r"precision (?P<precision>\S+), load (?P<load>[\d.]+) s, warm-up (?P<warmup>[^\n\"]*?)"
    r"(?:; without effect: [^\n\"]*)?(?=[\n\"]|$)"
)
"""The line that an instance logs when it is ready. Its own words may stand between device and threads, and in
place of the warm-up's seconds."""
_PORT_IN_USE = re.compile(r"Socket '(?P<address>[^']*)' already in use")
_NOISE = re.compile(
    r"^[|+]|^\s*$|^I\d{4} .* (?:server|metrics|tritonserver|model_lifecycle|cuda_memory_manager)\.cc:\d+\]"
    r"|CUDA driver version|CudaDriverHelper|NVML|DCGM|TRITONBACKEND_ModelInstanceInitialize"
    r"|Failed to create instance|failed to load|Failed to initialize Python stub"
)


@dataclass(frozen=True)
class Record:
    """One entry of the log: its level (`E`, `W`, `I`, `V`; empty for other lines) and its text."""

    level: str
    text: str


@dataclass(frozen=True)
class InstanceReport:
    """What a kindaware instance wrote when it was ready.

    Args:
        name: of the instance; instances on several GPUs share it.
        kind: `CPU`, `GPU` or `MODEL`.
        device: where it is, such as `cpu`, `cuda:1`, or for a model on several devices `cuda:0,cuda:1`.
        threads: its number of CPU threads.
        threads_reason: why that many.
        precision: such as `32-true`.
        load_seconds: time that `load()` took.
        warmup: how the warm-up went: its seconds, or why there was none.
    """

    name: str
    kind: str
    device: str
    threads: int
    threads_reason: str
    precision: str
    load_seconds: float
    warmup: str


def read_records(log: str) -> Iterator[Record]:
    """Yield the log's entries, in order; a quoted text is unquoted."""
    for line in log.splitlines():
        match = _RECORD.match(line)
        if match is None:
            yield Record("", line)
        else:
            yield Record(match["level"], _unquote(match["text"]))


def read_failures(log: str) -> dict[str, str]:
    """Return why each model that did not load failed, by model name, in the server's words."""
    failures: dict[str, str] = {}
    parse_error = ""
    for record in read_records(log):
        bad_text = _BAD_TEXT.search(record.text)
        if bad_text is not None:
            parse_error = f" ({bad_text['place']}: {bad_text['text']})"
        match = _FAILURE.match(record.text) if record.level == "E" else None
        if match is not None:
            model = match["model"] or match["unversioned"] or match["directory"]
            reason = match["reason"] or match["unversioned_reason"] or match["poll_reason"] + parse_error
            failures.setdefault(model, reason.strip())
            parse_error = ""
    return failures


def read_stub_failure(log: str) -> str | None:
    """Return the last words of a stub that ended without the server noticing, or None."""
    match = _STUB_FAILURE.search(log)
    return None if match is None else match["text"].strip()


def read_unfinished(log: str) -> list[str]:
    """Return the models whose loading has begun, and has neither succeeded nor failed."""
    begun, ended = [], set(read_failures(log))
    for record in read_records(log):
        begun += [match["model"] for match in [_LOADING.match(record.text)] if match]
        ended |= {match["model"] for match in [_LOADED.match(record.text)] if match}
    return [model for model in dict.fromkeys(begun) if model not in ended]


def read_instances(log: str) -> list[InstanceReport]:
    """Return what the kindaware instances reported, in the order in which they became ready."""
    return [
        InstanceReport(
            name=match["name"],
            kind=match["kind"],
            device=match["device"],
            threads=int(match["threads"]),
            threads_reason=match["reason"],
            precision=match["precision"],
            load_seconds=float(match["load"]),
            warmup=match["warmup"],
        )
        for match in _INSTANCE.finditer(log)
    ]


def read_port_in_use(log: str) -> str | None:
    """Return the address that the server could not bind, or None."""
    match = _PORT_IN_USE.search(log)
    return None if match is None else match["address"]


def last_lines(log: str, count: int = 12) -> str:
    """Return the end of the log without tables, routine, missing GPUs, and what `read_failures` reads."""
    lines = [line[:400] for line in log.splitlines() if not _NOISE.search(line)]
    return "\n".join(lines[-count:])


def _unquote(text: str) -> str:
    """Undo the quoting of newer servers, which write a text as a JSON string."""
    if text.startswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            return text.strip('"')
    return text.strip()
