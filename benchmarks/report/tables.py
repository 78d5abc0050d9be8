"""Tables in Markdown, one function for each part: for the page on performance, and for a screen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

from benchmarks.bars import Bar, ratios_of
from kindaware.cli.bench._stats import Spread, paired_ratio, short

CANDIDATE, FLOOR = "kindaware", "floor"


def render(parts: dict[str, Any], bars: Sequence[Bar]) -> Iterator[str]:
    """Yield the lines for the parts that were run, the bars on what they measure last."""
    for part, found in parts.items():
        yield from TABLES[part](found) if part in TABLES else _scenarios(part, found)
    subjects = {subject for subject, _ in dict(ratios_of(parts))}
    yield from judge(parts, [bar for bar in bars if bar.subject in subjects])


def judge(parts: dict[str, Any], bars: Sequence[Bar]) -> Iterator[str]:
    """Yield the table of what was to be reached, and whether it was."""
    ratios = dict(ratios_of(parts))
    rows = []
    for bar in bars:
        spread = ratios.get((bar.subject, bar.ratio))
        limit = f"at {'least' if bar.is_least else 'most'} {bar.limit:g}"
        measured = ["", ""] if spread is None else [str(spread), str(spread.number)]
        rows.append([bar.subject, bar.ratio, limit, *measured, bar.verdict(spread)])
    if rows:
        yield from ("", "### Bars", "", "Median of paired rounds, and in brackets the quartiles.")
        yield from _table(["Where", "Ratio", "Bar", "Measured", "Rounds", ""], rows)


def align(lines: Iterable[str]) -> Iterator[str]:
    """Pad the cells of tables, for a screen."""
    for is_table, group in groupby(lines, lambda line: line.startswith("|")):
        if not is_table:
            yield from group
            continue
        rows = [line[2:-2].split(" | ") for line in group if not line.startswith("|---")]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield ""
    for row in (titles, None, *rows):
        yield "|" + "---|" * len(titles) if row is None else f"| {' | '.join(row)} |"


def _text(spread: dict[str, Any]) -> str:
    return str(Spread(**spread))


def _serving(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"### Side by side, over {found['protocol'].upper()}")
    for scenario in found["scenarios"]:
        instances = f"{scenario['instances']} instance{'s' * (scenario['instances'] > 1)}"
        yield from ("", f"`{scenario['name']}`: {instances}, {scenario['concurrency']} requests in flight")
        yield from _table(
            ["Form", "Requests per second", "p50, ms", "p99, ms", "Client, us per request", "kindaware / it"],
            ([f"`{form}`", *_load_of(scenario, form)] for form in scenario["rates"]),
        )
        yield from _fastest(scenario)
        yield from _headroom(scenario)
    yield from _missing(found)


def _load_of(scenario: dict[str, Any], form: str) -> Iterator[str]:
    def values(name: str, form: str = form) -> list[float]:
        return [one[form][name] for one in scenario["rounds"]]

    yield _text(scenario["rates"][form])
    yield from (short(Spread.of(values(name)).median) for name in ("p50_ms", "p99_ms", "client_us"))
    rate = "requests_per_second"
    yield "" if form == CANDIDATE else str(paired_ratio(values(rate, CANDIDATE), values(rate)))


def _fastest(scenario: dict[str, Any]) -> Iterator[str]:
    """Which variant of a form the bars are about, where it is another one than the form itself."""
    tuned = [f"`{variant}`" for form, variant in scenario["fastest"].items() if variant != form]
    if tuned:
        yield from ("", f"The bars are about {' and '.join(tuned)}: that was the faster variant.")


def _headroom(scenario: dict[str, Any]) -> Iterator[str]:
    """How much more the load generator and the server could do than the forms answer."""
    rates = {form: rate["median"] for form, rate in scenario["rates"].items()}
    floor = rates.pop(FLOOR, None)
    if floor is not None:
        fastest = max(rates, key=lambda form: rates[form])
        yield ""
        yield (
            f"The same client had {floor:,.0f} answers per second from `{FLOOR}`, "
            f"{floor / rates[fastest]:.2f} times as many as from the fastest other form, `{fastest}`."
        )


def _curve(found: dict[str, Any]) -> Iterator[str]:
    networks = found["networks"]
    if networks:
        numbers = [point["concurrency"] for point in next(iter(networks.values()))]
        yield from ("", "### Throughput and latency", "")
        yield f"From {numbers[0]} to {numbers[-1]} requests in flight, one point each; medians."
        yield from ("", "![Latency over throughput, by form and network](../_static/throughput_latency.svg)")
    yield from _missing(found)


def _turns(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", "### One request in flight, in turns in one stub")
    yield from _in_turns(found, "kindaware")


def _tracing(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", "### One request in flight, with spans and twice without, in turns in one stub")
    yield from _in_turns(found, "traced")
    for network, measured in found["networks"].items():
        yield from ("", f"`{network}`, untraced / kindaware: {_text(measured['noise'])}")


def _in_turns(found: dict[str, Any], candidate: str) -> Iterator[str]:
    for network, measured in found["networks"].items():
        columns = [measured[key] for key in ("us", "ratios", "further_us")]
        yield from ("", f"`{network}`: `execute`, {measured['rounds']} rounds")
        yield from _table(
            ["Form", "us", f"{candidate} / it", f"{candidate} less it, us"],
            (
                [f"`{form}`", *(_text(column[form]) if form in column else "" for column in columns)]
                for form in measured["us"]
            ),
        )


def _overhead(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"### Overhead of execute, {found['requests']} requests of one row, in the stub")
    yield from _table(
        ["", "us per request"], ([name, _text(one)] for name, one in found["us_per_request"].items())
    )


def _growth(found: dict[str, Any]) -> Iterator[str]:
    places = {"in_stub": "in the stub", "in_process": "in process"}
    kinds = {"execute_us": "execute", "unavoidable_us": "unavoidable calls"}
    yield from ("", "### Growth: us per execute")
    yield from _table(
        ["Requests", *(f"{kind}, {name}" for name in places.values() for kind in kinds.values())],
        (
            [str(size), *(f"{found[place][kind][n]:.1f}" for place in places for kind in kinds)]
            for n, size in enumerate(found["requests"])
        ),
    )
    yield ""
    for place, name in places.items():
        fit = "{fixed_us:.1f} us and {per_request_us:.2f} us per request, off by at most {max_deviation:.0%}"
        execute, bare = (fit.format(**found[place][kind]) for kind in ("fit", "unavoidable_fit"))
        yield f"- Fitted {name}: execute {execute}; the unavoidable calls {bare}."


def _stages(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", "### Stages of a loaded instance")
    in_process = f"in process, {found['concurrency']} requests, as `kindaware profile` has it"
    for network, measured in found["networks"].items():
        stub = measured["in_stub"]
        yield from ("", f"`{network}` on the server: {stub['requests_per_batch']:.1f} requests per batch")
        yield from _shares("us per request", stub["us_per_request"], digits=1)
        yield from ("", f"`{network}` {in_process}")
        yield from _shares("ms per execute", measured["in_process"]["ms_per_execute"], digits=3)


def _shares(title: str, times: dict[str, float], digits: int) -> Iterator[str]:
    total = sum(times.values())
    yield from _table(
        ["Stage", title, "Share"],
        ([name, f"{time:.{digits}f}", f"{time / total:.1%}"] for name, time in times.items()),
    )


def _imports(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", "### Imports, seconds")
    yield from _table(
        ["", "Seconds"], ([f"`import {name}`", _text(one)] for name, one in found["seconds"].items())
    )


def _gains(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"### Settings, {found['concurrency']} requests in flight")
    for network, measured in found["networks"].items():
        titles = ["Setting", "Requests per second", "Over the defaults"]
        columns = [{name: _text(one) for name, one in measured[key].items()} for key in ("rates", "ratios")]
        if "agreement" in measured:
            agreement = measured["agreement"]
            titles.append(f"Same best class as FP32, of {agreement['pictures']} pictures")
            columns.append({name: f"{one:.1%}" for name, one in agreement["same_best_class"].items()})
        yield from ("", f"`{network}`")
        rows = ([name, *(one.get(name, "not measured") for one in columns)] for name in measured["ratios"])
        yield from _table(titles, rows)
        for compared in measured.get("optimized", {}).values():
            ratio = _text(compared["ratio"])
            yield from ("", f"`optimize` `auto` reached {ratio} times the rate of `{compared['name']}`.")
    yield from _missing(found)


def _threads(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", "### Threads that are measured")
    rows = []
    for one in found["scenarios"]:
        rates = [_text(rate) for rate in one["rates"].values()]
        rows.append([one["name"].removeprefix("threads, "), ", ".join(map(str, one["threads"])), *rates])
    names = next((list(one["rates"]) for one in found["scenarios"]), [])
    yield from _table(["", "Threads of `auto`", *(f"{name}, requests per second" for name in names)], rows)
    starts = [
        [
            network,
            "; ".join(f"{times} x {chosen}" for chosen, times in one["chosen"].items()),
            _text(one["seconds"]),
        ]
        for network, one in found["starts"].items()
    ]
    yield from _table(["", "Chosen in several starts", "Seconds until the server is ready"], starts)
    yield from _missing(found)


def _padding(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"### Texts of different length, {found['concurrency']} requests in flight")
    for one in found["scenarios"]:
        columns = [{name: _text(spread) for name, spread in one[key].items()} for key in ("rates", "of_one")]
        yield from ("", f"`{one['name']}`")
        yield from _table(
            ["`max_padding`", "Requests per second", "Over one batch"],
            ([name, *(column[name] for column in columns)] for name in one["rates"]),
        )
    if found["scenarios"]:
        yield ""
        yield "![Requests per second, by how much may be padding](../_static/padding.svg)"
    yield from _missing(found)


def _memory(found: dict[str, Any]) -> Iterator[str]:
    samples = found["samples"]
    yield from ("", "### Memory of an instance")
    yield from _table(
        ["Requests so far", "Resident, MiB", "Of it no file's, MiB"],
        (
            [f"{one['requests']:.0f}", f"{one['resident_mib']:.1f}", f"{one['anonymous_mib']:.1f}"]
            for one in samples[:: max(1, len(samples) // 10)]
        ),
    )
    yield from ("", f"Over the second half it grew by {found['growth_in_second_half_mib']:+.1f} MiB.")


def _step(found: dict[str, Any]) -> Iterator[str]:
    yield from _scenarios(f"Streams, over {found['protocol'].upper()}", found)
    if found.get("curve"):
        yield ""
        yield "![Tokens per second and time to the first one, by number of streams](../_static/streams.svg)"


def _overlap(found: dict[str, Any]) -> Iterator[str]:
    yield from _scenarios("Calls that overlap, on a simulated GPU", found)
    if found.get("timeline"):
        yield ""
        yield "![What host and GPU do when, with overlap_calls and without](../_static/overlap_timeline.svg)"


def _sharing(found: dict[str, Any]) -> Iterator[str]:
    yield from _scenarios("Weights of one and of four instances", found)
    if found["scenarios"]:
        yield ""
        yield "![Memory and load time of one and of four instances, by how they load](../_static/sharing.svg)"


def _starts(found: dict[str, Any]) -> Iterator[str]:
    yield from _scenarios("Starts of a compiled model", found)


def _scenarios(title: str, found: dict[str, Any]) -> Iterator[str]:
    """What was measured in each scenario, by what was compared, and the ratios."""
    yield from ("", f"### {title}")
    for one in found["scenarios"]:
        columns = one["measures"].values()
        yield from ("", f"`{one['name']}`")
        yield from _table(
            ["", *one["measures"]],
            ([name, *(_text(column[name]) for column in columns)] for name in next(iter(columns))),
        )
        if one["ratios"]:
            yield from _table(["Ratio", ""], ([name, _text(ratio)] for name, ratio in one["ratios"].items()))
    yield from _missing(found)


def _missing(found: dict[str, Any]) -> Iterator[str]:
    for reason in found["not_measured"]:
        yield from ("", f"Not measured: {reason}")


TABLES: MappingProxyType[str, Callable[[dict[str, Any]], Iterator[str]]] = MappingProxyType(
    {
        "serving": _serving,
        "turns": _turns,
        "tracing": _tracing,
        "curve": _curve,
        "overhead": _overhead,
        "growth": _growth,
        "stages": _stages,
        "imports": _imports,
        "padding": _padding,
        "threads": _threads,
        "gains": _gains,
        "memory": _memory,
        "step": _step,
        "sharing": _sharing,
        "starts": _starts,
        "overlap": _overlap,
    }
)
"""By part, in the order of the page."""
