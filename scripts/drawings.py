"""Draw the pictures of the documentation: `python scripts/drawings.py` writes docs/_static/drawings.

A drawing is 480 wide, so that its text can be read on a phone, and has a background of its own, so that it
can be read on a light and on a dark page. The chart is made from the newest of the benchmarks' results.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "_static" / "drawings"
WIDTH = 480
STYLE = """\
text { font: 14px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2933; }
.code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 13px; }
.small { font-size: 12px; fill: #52606d; stroke: #fbfcfd; stroke-width: 5px; paint-order: stroke; }
.label { font-size: 12px; }
.bold { font-weight: 600; }
.panel { fill: #fbfcfd; stroke: #d3dae2; }
.box { fill: #fff; stroke: #7b8794; }
.blue { fill: #d6e8fb; stroke: #2f6fb0; }
.green { fill: #d5f0dd; stroke: #2c8a4b; }
.red { fill: #fadcd9; stroke: #c0392b; }
.amber { fill: #fdebc8; stroke: #b7791f; }
.line { stroke: #52606d; fill: none; stroke-width: 1.5; }
.dashed { stroke-dasharray: 4 4; }
.head { fill: #52606d; }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e7eb; }
  .small { fill: #a9b4c0; stroke: #1b2128; }
  .panel { fill: #1b2128; stroke: #3e4c59; }
  .box { fill: #262f38; stroke: #7b8794; }
  .blue { fill: #1e3f61; stroke: #6aaae8; }
  .green { fill: #1d4a2e; stroke: #62c583; }
  .red { fill: #5c2420; stroke: #ec8379; }
  .amber { fill: #58431a; stroke: #e0b04f; }
  .line { stroke: #a9b4c0; }
  .head { fill: #a9b4c0; }
}
"""


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> str:
    """Return one line of text."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, *lines: str, words: str = "") -> str:
    """Return a rectangle with lines of text in its middle."""
    top = y + height / 2 + 5 - 8.5 * (len(lines) - 1)
    middle = [text(x + width / 2, top + 17 * number, one, words) for number, one in enumerate(lines)]
    shape = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" class="{kind}"/>'
    return "\n".join([shape, *middle])


def arrow(x: float, y: float, to_x: float, to_y: float, kind: str = "") -> str:
    """Return a line with a head at its end."""
    return line(x, y, to_x, to_y, kind).replace("/>", ' marker-end="url(#head)"/>')


def line(x: float, y: float, to_x: float, to_y: float, kind: str = "") -> str:
    """Return a line."""
    return f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" class="line {kind}"/>'


def drawing(height: int, title: str, parts: Iterable[str]) -> str:
    """Return a whole SVG."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0 L8 4 L0 8 z" class="head"/></marker></defs>',
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" class="panel"/>',
            *parts,
            "</svg>\n",
        ]
    )


def placement() -> str:
    """Draw which device each instance of a model runs on."""
    parts = [
        box(20, 20, 440, 66, "box"),
        text(32, 42, "instance_group [", "code", "start"),
        text(50, 59, "{ kind: KIND_GPU count: 1 gpus: [ 0, 1 ] },", "code", "start"),
        text(50, 76, "{ kind: KIND_CPU count: 2 } ]", "code", "start"),
    ]
    names = ["net_0_0", "net_0_0", "net_1_0", "net_1_1"]
    for number, name in enumerate(names):
        x = 20 + 113 * number
        parts += [arrow(x + 50, 86, x + 50, 128, "dashed"), box(x, 130, 101, 36, "blue", name, words="code")]
    parts += [
        box(20, 212, 101, 58, "green", "cuda:0", "1 stream"),
        box(133, 212, 101, 58, "green", "cuda:1", "1 stream"),
        box(246, 212, 214, 58, "amber", "cpu, 8 cores", "4 threads each"),
        *(arrow(70 + 113 * number, 166, 70 + 113 * number, 210) for number in range(4)),
        text(240, 112, "Triton starts a process for each instance", "small"),
        text(240, 190, "kindaware makes its device current, then calls load", "small"),
        text(240, 294, "Nothing else changes: model.py names no device.", "small"),
    ]
    return drawing(310, "instance_group decides which device each instance runs on", parts)


def execute() -> str:
    """Draw one call of execute over time: the host, the instance's stream, and the buffers."""
    lanes = {"host": 44, "stream": 100, "in": 172, "device": 206, "out": 240}
    names = {"in": "inputs", "device": "device", "out": "outputs"}
    boxes = [
        (72, "host", 36, "box", "read"),
        (110, "host", 46, "blue", "fill 1"),
        (158, "host", 46, "blue", "fill 2"),
        (206, "host", 66, "box", "queue"),
        (274, "host", 118, "amber", "one wait"),
        (394, "host", 66, "box", "respond"),
        (158, "stream", 46, "blue", "in 1"),
        (206, "stream", 46, "blue", "in 2"),
        (254, "stream", 90, "green", "forward"),
        (346, "stream", 46, "blue", "out"),
        (110, "in", 142, "blue", "page-locked, reused"),
        (158, "device", 234, "green", "fresh from torch's allocator"),
        (346, "out", 114, "blue", "page-locked"),
    ]
    parts = [
        text(240, 28, "One call of execute, on a GPU"),
        *(text(64, lanes[name] + 20, name, "small", "end") for name in ("host", "stream")),
        *(text(64, lanes[name] + 16, words, "small", "end") for name, words in names.items()),
        line(252, 132, 252, 172, "dashed"),
        line(392, 132, 392, 206, "dashed"),
        *(
            box(x, lanes[lane], width, 32 if lane in ("host", "stream") else 24, kind, words, words="label")
            for x, lane, width, kind, words in boxes
        ),
        arrow(158, 76, 163, 99),
        arrow(206, 76, 211, 99),
        arrow(392, 100, 392, 78),
        text(72, 162, "memory in use", "small", "start"),
        arrow(72, 284, 460, 284),
        text(266, 302, "time", "small"),
    ]
    return drawing(316, "One call of execute over time: host, stream and buffers", parts)


def halving() -> str:
    """Draw how the one bad request of a batch is found."""
    cell, bad = 48, 5
    parts = [text(240, 28, "8 requests, one forward: number 6 makes it raise")]
    steps = [(44, [(0, 8)]), (104, [(0, 4), (4, 8)]), (164, [(4, 6), (6, 8)]), (224, [(4, 5), (5, 6)])]
    for y, ranges in steps:
        for start, stop in ranges:
            x = 48 + start * cell + 3
            kind = "green" if not start <= bad < stop else "red" if stop - start == 1 else "amber"
            label = " ".join(str(number + 1) for number in range(start, stop))
            parts.append(box(x, y, (stop - start) * cell - 6, 32, kind, label))
    parts += [
        *(
            arrow(48 + cell * x, y, 48 + cell * to_x, y + 27)
            for x, y, to_x in [(4, 76, 2), (4, 76, 6), (6, 136, 5), (6, 136, 7), (5, 196, 4.5), (5, 196, 5.5)]
        ),
        box(48, 282, 16, 16, "green"),
        text(72, 295, "answered", "small", "start"),
        box(150, 282, 16, 16, "amber"),
        text(174, 295, "raised, halved", "small", "start"),
        box(284, 282, 16, 16, "red"),
        text(308, 295, "gets the error, alone", "small", "start"),
    ]
    return drawing(318, "A batch that fails is halved until the guilty request is alone", parts)


def stream() -> str:
    """Draw a stream from its request to its end."""
    client, model = 90, 380
    parts = [
        box(30, 16, 120, 32, "blue", "client"),
        box(300, 16, 160, 32, "green", "stream(self, ...)", words="code"),
        line(client, 48, client, 330, "dashed"),
        line(model, 48, model, 330, "dashed"),
        arrow(client, 74, model - 2, 74),
        text(235, 68, "request", "small"),
        *(arrow(model, y, client + 2, y) for y in (108, 138, 168)),
        *(
            text(235, y - 6, f"response {number}", "small")
            for number, y in enumerate((108, 138, 168), start=1)
        ),
        *(text(model + 8, y + 4, "yield", "code", "start") for y in (108, 138, 168)),
        box(30, 192, 430, 96, "box"),
        text(44, 212, "then one of", "small", "start"),
        text(44, 232, "the generator returns", "", "start"),
        text(44, 254, "it raises: the client gets the error", "", "start"),
        text(44, 276, "the client cancels or goes: it is closed, finally runs", "", "start"),
        arrow(model, 312, client + 2, 312),
        text(235, 306, "exactly one end", "small"),
    ]
    return drawing(342, "A stream's life: one request, any number of responses, exactly one end", parts)


def throughput() -> str:
    """Draw the rates of the ways to serve a network, out of the newest of the committed results."""
    found = [json.loads(path.read_text()) for path in ROOT.glob("benchmarks/results/*-http.json")]
    runs = [one for one in found if "serving" in one["parts"]]
    newest = max(runs, key=lambda one: str(one["run"]["date"]))
    by_name = {one["name"]: one for one in newest["parts"]["serving"]["scenarios"]}
    parts = [text(240, 28, "Requests per second, by how the network is served")]
    y = 56
    for title, name in [("Transformer", "transformer, 1 instance"), ("MLP", "mlp, 1 instance")]:
        scenario = by_name[name]
        parts.append(text(20, y, f"{title}, {scenario['concurrency']} requests in flight", "bold", "start"))
        parts += bars(scenario, y + 12)
        y += 172
    return drawing(y - 16, "Throughput of kindaware, a model.py by hand, and other servers", parts)


JOIN, COPY, FORWARD, ANSWER = 6, 1, 10, 5
"""How long the stages of a drawn call take, in milliseconds."""

Busy = list[tuple[str, int, int, int]]
"""Lane, number of the call, start and end."""


def one_by_one(num_calls: int) -> Busy:
    """Return when what is busy, if a call begins when the one before it is answered."""
    busy: Busy = []
    for number in range(num_calls):
        at = number * (JOIN + COPY + FORWARD + COPY + ANSWER)
        lanes = [("host", JOIN), ("in", COPY), ("GPU", FORWARD), ("out", COPY), ("host", ANSWER)]
        for lane, length in lanes:
            busy.append((lane, number, at, at + length))
            at += length
    return busy


def overlapping(num_calls: int) -> Busy:
    """Return the same, if a call is passed when the GPU has done the one before the last."""
    busy: Busy = []
    joined = computed = answered = 0
    landed = [0, 0]
    for number in range(num_calls):
        joined = max(joined, landed[-2]) + JOIN
        computed = max(computed, joined + COPY) + FORWARD
        landed.append(computed + COPY)
        answered = max(answered, landed[-1]) + ANSWER
        busy += [
            ("host", number, joined - JOIN, joined),
            ("in", number, joined, joined + COPY),
            ("GPU", number, computed - FORWARD, computed),
            ("out", number, computed, computed + COPY),
            ("answers", number, answered - ANSWER, answered),
        ]
    return busy


def overlap() -> str:
    """Draw what host and GPU do during four calls, one by one and overlapping."""
    kinds = {"host": "blue", "in": "box", "GPU": "green", "out": "box", "answers": "amber"}
    plain, beside = one_by_one(4), overlapping(4)
    scale = 384 / max(end for *_, end in plain)
    parts, y = [], 30
    for title, busy in [("one call at a time", plain), ("overlap_calls", beside)]:
        parts.append(text(20, y, title, "bold", "start"))
        y += 12
        for lane in [one for one in kinds if any(one == name for name, *_ in busy)]:
            parts.append(text(72, y + 15, lane, "small", "end"))
            for _, number, start, end in [one for one in busy if one[0] == lane]:
                x, width = 80 + scale * start, scale * (end - start)
                label = [str(number + 1)] if width > 12 else []
                parts.append(box(x, y, width, 20, kinds[lane], *label, words="label"))
            y += 25
        y += 28
    parts += [arrow(80, y - 22, 464, y - 22), text(272, y - 4, "time", "small")]
    return drawing(y + 10, "What host and GPU do during four calls, one by one and overlapping", parts)


FORMS = [
    ("kindaware", "kindaware", "green"),
    ("by hand, batched", "hand_written", "blue"),
    ("official style", "official", "box"),
    ("PyTriton", "pytriton", "box"),
    ("LitServe", "litserve", "box"),
]


def bars(scenario: dict[str, Any], y: float) -> list[str]:
    """Return a bar per form: the faster variant of those that were measured in two."""
    rates = {
        label: (scenario["rates"][scenario["fastest"].get(form, form)]["median"], kind)
        for label, form, kind in FORMS
    }
    most = max(rate for rate, _ in rates.values())
    parts = []
    for number, (label, (rate, kind)) in enumerate(rates.items()):
        top = y + 27 * number
        width = 265 * rate / most
        parts += [
            text(132, top + 16, label, "label", "end"),
            box(140, top, width, 22, kind),
            text(146 + width, top + 16, f"{rate:,.0f}", "label", "start"),
        ]
    return parts


DRAWINGS = {
    "placement": placement,
    "execute": execute,
    "halving": halving,
    "stream": stream,
    "overlap": overlap,
    "throughput": throughput,
}


def main() -> None:
    """Write all drawings."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWINGS.items():
        (FOLDER / f"{name}.svg").write_text(draw())


if __name__ == "__main__":
    main()
