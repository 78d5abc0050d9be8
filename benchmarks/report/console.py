"""What a person reads at the end of a run: tables of medians with quartiles, and the bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.bars import BARS
from benchmarks.stats import Spread


def report(parts: dict[str, Any]) -> Iterator[str]:
    """Give the lines for the parts that were run, the bars last."""
    if "serving" in parts:
        yield from _serving(parts["serving"])
    for network, found in parts.get("turns", {"networks": {}})["networks"].items():
        yield f"\none request of {network} at a time, in turns in one stub: us, kindaware over the others"
        yield from _spreads(found["us"])
        yield from _spreads({f"kindaware / {form}": one for form, one in found["ratios"].items()})
    if "overhead" in parts:
        found = parts["overhead"]
        yield f"\noverhead, {found['requests']} requests of one row in the real stub, us per request"
        yield from _spreads(found["us_per_request"])
    if "growth" in parts:
        yield from _growth(parts["growth"])
    if "stages" in parts:
        yield from _stages(parts["stages"])
    if "imports" in parts:
        yield "\nimports, seconds"
        yield from _spreads(parts["imports"]["seconds"])
    if "gains" in parts:
        yield from _gains(parts["gains"])
    if "memory" in parts:
        growth = parts["memory"]["growth_in_second_half_mib"]
        yield f"\nmemory: {growth:+.1f} MiB anonymous over the second half of the requests"
    yield from judge(parts)


def judge(parts: dict[str, Any]) -> Iterator[str]:
    """Give a line for each bar whose part was run."""
    ratios = dict(ratios_of(parts))
    lines = []
    for bar in BARS:
        if any(subject == bar.subject for subject, _ in ratios):
            spread = ratios.get((bar.subject, bar.ratio))
            limit = f"at {'least' if bar.is_least else 'most'} {bar.limit:g}"
            lines.append(f"  {bar.subject:28} {bar.ratio:44} {limit:14} {spread} {bar.verdict(spread)}")
    if lines:
        yield "\nbars: median (quartiles) of paired rounds"
        yield from lines


def ratios_of(parts: dict[str, Any]) -> Iterator[tuple[tuple[str, str], Spread]]:
    """Give every ratio that was measured, by its subject and name."""
    subjects = {one["name"]: one for one in parts.get("serving", {}).get("scenarios", [])}
    subjects.update({name: parts[name] for name in ("overhead", "imports") if name in parts})
    for subject, found in subjects.items():
        for ratio, spread in found["ratios"].items():
            yield (subject, ratio), Spread(**spread)


def _serving(found: dict[str, Any]) -> Iterator[str]:
    yield f"\nserving over {found['protocol']}: medians (quartiles)"
    for scenario in found["scenarios"]:
        yield f"\n{scenario['name']}, {scenario['concurrency']} requests in flight"
        for form, rate in scenario["rates"].items():
            client = Spread.of([one[form]["client_us"] for one in scenario["rounds"]]).median
            p50, p99 = (
                Spread.of([one[form][name] for one in scenario["rounds"]]).median
                for name in ("p50_ms", "p99_ms")
            )
            yield (
                f"  {form:16} {Spread(**rate)!s:>26} requests/s, p50 {p50:.3g} ms, p99 {p99:.3g} ms, "
                f"client {client:.0f} us"
            )
        yield from _spreads(scenario["ratios"])
    yield from (f"NOT MEASURED: {reason}" for reason in found["not_measured"])


def _growth(found: dict[str, Any]) -> Iterator[str]:
    for place in ("in_process", "in_stub"):
        yield f"\ngrowth {place}: us per execute"
        for row in zip(
            found["requests"], found[place]["execute_us"], found[place]["unavoidable_us"], strict=True
        ):
            yield "  {:4} requests: {:8.1f}, unavoidable calls {:8.1f}".format(*row)
        for name in ("fit", "unavoidable_fit"):
            yield (
                "  {}: {fixed_us:.1f} us + {per_request_us:.2f} us per request, off by at most "
                "{max_deviation:.0%}".format(name, **found[place][name])
            )


def _stages(found: dict[str, Any]) -> Iterator[str]:
    for network, measured in found["networks"].items():
        batch = measured["in_stub"]["requests_per_batch"]
        yield f"\nstages of {network} on the server, us per request, {batch:.1f} requests per batch"
        for name, us in measured["in_stub"]["us_per_request"].items():
            yield f"  {name:16} {us:8.1f}"
        yield f"stages of {network} in process, ms per execute of {found['concurrency']} requests"
        for name, ms in measured["in_process"]["ms_per_execute"].items():
            yield f"  {name:16} {ms:8.3f}"


def _gains(found: dict[str, Any]) -> Iterator[str]:
    for network, measured in found["networks"].items():
        yield f"\n{network}: requests per second over those of the defaults, {found['concurrency']} in flight"
        shares = measured.get("agreement", {}).get("same_best_class", {})
        for name, ratio in measured["ratios"].items():
            share = f", same best class {shares[name]:.1%}" if name in shares else ""
            yield f"  {name:50} {Spread(**ratio)}{share}"
    yield from (f"NOT MEASURED: {reason}" for reason in found["not_measured"])


def _spreads(spreads: dict[str, Any]) -> Iterable[str]:
    return [f"  {name:46} {Spread(**spread)}" for name, spread in spreads.items()]
