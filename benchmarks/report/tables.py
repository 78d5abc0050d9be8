"""The tables of the page on performance, in Markdown: one function for each part of the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType
from typing import Any

from benchmarks.bars import BARS
from benchmarks.parts.scenarios import CANDIDATE, FLOOR, ONE_THREAD
from benchmarks.report.console import ratios_of
from benchmarks.stats import Spread, short


def head(titles: Sequence[str]) -> Iterator[str]:
    """Begin a table."""
    yield ""
    yield row(titles)
    yield "|" + "---|" * len(titles)


def row(cells: Sequence[str]) -> str:
    """Give one row of a table."""
    return f"| {' | '.join(cells)} |"


def bars(parts: dict[str, Any]) -> Iterator[str]:
    """What was to be reached, and whether it was."""
    ratios = dict(ratios_of(parts))
    yield from ("", "### Bars", "", "Median of paired rounds, and in brackets the quartiles.")
    yield from head(["Where", "Ratio", "Bar", "Measured", "Rounds", ""])
    for bar in BARS:
        spread = ratios.get((bar.subject, bar.ratio))
        limit = f"at {'least' if bar.is_least else 'most'} {bar.limit:g}"
        measured, number = ("", "") if spread is None else (str(spread), str(spread.number))
        yield row([bar.subject, bar.ratio, limit, measured, number, bar.verdict(spread)])


def _serving(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"### Side by side, over {found['protocol'].upper()}")
    for scenario in found["scenarios"]:
        instances = f"{scenario['instances']} instance{'s' * (scenario['instances'] > 1)}"
        yield from ("", f"`{scenario['name']}`: {instances}, {scenario['concurrency']} requests in flight")
        yield from head(
            ["Form", "Requests per second", "p50, ms", "p99, ms", "Client, us per request", "kindaware / it"]
        )
        for form, rate in scenario["rates"].items():
            medians = [
                Spread.of([one[form][name] for one in scenario["rounds"]]).median
                for name in ("p50_ms", "p99_ms", "client_us")
            ]
            rates = [
                [one[which]["requests_per_second"] for one in scenario["rounds"]]
                for which in (CANDIDATE, form)
            ]
            ratio = "" if form == CANDIDATE else str(Spread.of([a / b for a, b in zip(*rates, strict=True)]))
            yield row([f"`{form}`", str(Spread(**rate)), *(short(one) for one in medians), ratio])
        yield from _fastest(scenario)
        yield from _headroom(scenario)
    yield from _missing(found)


def _fastest(scenario: dict[str, Any]) -> Iterator[str]:
    """Which variant of a form the bars are about, where there are two."""
    tuned = [form for form in scenario["fastest"].values() if form in ONE_THREAD]
    if tuned:
        yield ""
        names = " and ".join(f"`{form}`" for form in tuned)
        yield f"The bars are about {names}: that was the faster variant."


def _headroom(scenario: dict[str, Any]) -> Iterator[str]:
    """How much more the load generator and the server could do than the forms answer."""
    rates = {form: rate["median"] for form, rate in scenario["rates"].items()}
    if FLOOR in rates:
        floor = rates.pop(FLOOR)
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
        yield from ("", "![Latency over throughput, by form and network](_static/throughput_latency.svg)")
    yield from _missing(found)


def _turns(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", "### One request in flight, in turns in one stub")
    for network, measured in found["networks"].items():
        yield from ("", f"`{network}`: `execute`, {measured['rounds']} rounds")
        yield from head(["Form", "us", "kindaware / it", "kindaware less it, us"])
        for form, spread in measured["us"].items():
            compared = [measured[key].get(form) for key in ("ratios", "further_us")]
            cells = [str(Spread(**one)) if one else "" for one in compared]
            yield row([f"`{form}`", str(Spread(**spread)), *cells])


def _overhead(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"### Overhead of execute, {found['requests']} requests of one row, in the stub")
    yield from head(["", "us per request"])
    for name, spread in found["us_per_request"].items():
        yield row([name, str(Spread(**spread))])


def _growth(found: dict[str, Any]) -> Iterator[str]:
    places = {"in_stub": "in the stub", "in_process": "in process"}
    yield from ("", "### Growth: us per execute")
    yield from head(
        ["Requests", *(f"{kind}, {name}" for name in places.values() for kind in _KINDS.values())]
    )
    for n, size in enumerate(found["requests"]):
        yield row([str(size), *(f"{found[place][kind][n]:.1f}" for place in places for kind in _KINDS)])
    yield ""
    for place, name in places.items():
        fit = "{fixed_us:.1f} us and {per_request_us:.2f} us per request, off by at most {max_deviation:.0%}"
        execute, bare = (fit.format(**found[place][kind]) for kind in ("fit", "unavoidable_fit"))
        yield f"- Fitted {name}: execute {execute}; the unavoidable calls {bare}."


_KINDS = {"execute_us": "execute", "unavoidable_us": "unavoidable calls"}


def _stages(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", "### Stages of a loaded instance")
    for network, measured in found["networks"].items():
        stub = measured["in_stub"]
        total = sum(stub["us_per_request"].values())
        yield from ("", f"`{network}` on the server: {stub['requests_per_batch']:.1f} requests per batch")
        yield from head(["Stage", "us per request", "Share"])
        for name, us in stub["us_per_request"].items():
            yield row([name, f"{us:.1f}", f"{us / total:.1%}"])
        times = measured["in_process"]["ms_per_execute"]
        total = sum(times.values())
        yield from (
            "",
            f"`{network}` in process, {found['concurrency']} requests, as `kindaware profile` has it",
        )
        yield from head(["Stage", "ms per execute", "Share"])
        for name, ms in times.items():
            yield row([name, f"{ms:.3f}", f"{ms / total:.1%}"])


def _imports(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", "### Imports, seconds")
    yield from head(["", "Seconds"])
    for name, spread in found["seconds"].items():
        yield row([f"`import {name}`", str(Spread(**spread))])


def _gains(found: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"### Settings, {found['concurrency']} requests in flight")
    for network, measured in found["networks"].items():
        agreement = measured.get("agreement", {"same_best_class": {}})
        shares = agreement["same_best_class"]
        yield from ("", f"`{network}`")
        titles = ["Setting", "Requests per second", "Over the defaults"]
        if shares:
            titles.append(f"Same best class as FP32, of {agreement['pictures']} pictures")
        yield from head(titles)
        for name, ratio in measured["ratios"].items():
            share = [f"{shares[name]:.1%}"] if shares else []
            yield row([name, str(Spread(**measured["rates"][name])), str(Spread(**ratio)), *share])
    yield from _missing(found)


def _memory(found: dict[str, Any]) -> Iterator[str]:
    samples = found["samples"]
    yield from ("", "### Memory of an instance")
    yield from head(["Requests so far", "Resident, MiB", "Of it no file's, MiB"])
    for sample in samples[:: max(1, len(samples) // 10)]:
        yield row(
            [f"{sample['requests']:.0f}", f"{sample['resident_mib']:.1f}", f"{sample['anonymous_mib']:.1f}"]
        )
    yield ""
    yield f"Over the second half it grew by {found['growth_in_second_half_mib']:+.1f} MiB."


def _missing(found: dict[str, Any]) -> Iterator[str]:
    for reason in found.get("not_measured", []):
        yield from ("", f"Not measured: {reason}")


TABLES: MappingProxyType[str, Callable[[dict[str, Any]], Iterator[str]]] = MappingProxyType(
    {
        "serving": _serving,
        "turns": _turns,
        "curve": _curve,
        "overhead": _overhead,
        "growth": _growth,
        "stages": _stages,
        "imports": _imports,
        "gains": _gains,
        "memory": _memory,
    }
)
"""By part, in the order of the page."""
