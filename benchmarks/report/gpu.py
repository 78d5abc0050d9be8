"""What a person reads at the end of a run on a GPU: tables of medians with quartiles, and the bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.bars import Bar
from benchmarks.gpu.forwards import FLOOR_SHARE, LOOP_GAIN
from benchmarks.gpu.processes import SHARE
from benchmarks.gpu.staging import IN_RATIO, OUT_RATIO, name_of
from benchmarks.stats import Spread

STAGING_BAR_SIZES = tuple(mib * 2**20 for mib in (8, 16, 32, 64, 128, 256))

BARS = (
    Bar("resnet50, 32 requests", FLOOR_SHARE, 0.90),
    Bar("resnet50, 32 requests", SHARE, 0.90),
    Bar("transformer, 32 requests", LOOP_GAIN, 8),
    *(Bar(f"staging, {name_of(size)}", IN_RATIO, 1.15, is_least=False) for size in STAGING_BAR_SIZES),
    *(Bar(f"staging, {name_of(size)}", OUT_RATIO, 1.15, is_least=False) for size in STAGING_BAR_SIZES),
)


def report(parts: dict[str, Any]) -> Iterator[str]:
    """Give the lines for the parts that were run, the bars last."""
    for part in ("forwards", "compiled"):
        for found in parts.get(part, {}).values():
            yield from _forwards(found)
    if "staging" in parts:
        yield from _staging(parts["staging"])
    for found in parts.get("processes", {}).values():
        yield from _processes(found)
    for reason in missing_of(parts):
        yield f"NOT MEASURED: {reason}"
    yield "\nbars: median (quartiles) of paired rounds"
    for one in judge(parts):
        limit = f"at {'least' if one['is_least'] else 'most'} {one['limit']:g}"
        spread = "" if one["ratio_spread"] is None else Spread(**one["ratio_spread"])
        yield f"  {one['subject']:24} {one['ratio']:54} {limit:14} {spread} {one['verdict']}"


def judge(parts: dict[str, Any]) -> list[dict[str, Any]]:
    """Say for each bar whether it is met."""
    ratios = dict(_ratios(parts))
    judged = []
    for bar in BARS:
        spread = ratios.get((bar.subject, bar.ratio))
        judged.append(
            {
                "subject": bar.subject,
                "ratio": bar.ratio,
                "limit": bar.limit,
                "is_least": bar.is_least,
                "ratio_spread": spread,
                "verdict": bar.verdict(None if spread is None else Spread(**spread)),
            }
        )
    return judged


def missing_of(parts: dict[str, Any]) -> list[str]:
    """Say what was not measured, and why."""
    found = [
        f"{network}, {what}: {why}"
        for part in ("forwards", "compiled")
        for network, one in parts.get(part, {}).items()
        for what, why in one["not_measured"].items()
    ]
    found += [
        f"staging, {what}: {why}" for what, why in parts.get("staging", {}).get("not_measured", {}).items()
    ]
    return found + [f"{part}: {why}" for part, why in parts.get("not_measured", {}).items()]


def _ratios(parts: dict[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for network, found in parts.get("forwards", {}).items():
        for size, one in found["sizes"].items():
            for ratio, spread in one["ratios"].items():
                yield (f"{network}, {size} requests", ratio), spread
    for network, found in parts.get("processes", {}).items():
        for ratio, spread in found["ratios"].items():
            yield (f"{network}, {found['requests']} requests", ratio), spread
    for size, found in parts.get("staging", {}).get("sizes", {}).items():
        for ratio, spread in found["ratios"].items():
            yield (f"staging, {size}", ratio), spread


def _forwards(found: dict[str, Any]) -> Iterator[str]:
    for size, one in found["sizes"].items():
        yield f"\n{found['network']}, {size} requests: medians (quartiles)"
        for name, rate in one["rows_per_second"].items():
            wall = Spread(**one["milliseconds"][name])
            device = one["device_milliseconds"][name]["median"]
            yield f"  {name:36} {Spread(**rate)!s:>30} rows/s, {wall} ms, device {device:.3g} ms"
        yield from _spreads(one["ratios"])


def _staging(found: dict[str, Any]) -> Iterator[str]:
    yield f"\nstaging, 32 requests, {found['threads_of_an_instance']} threads: GB/s"
    for size, one in found["sizes"].items():
        yield f" {size}"
        yield from _spreads(one["gb_per_second"])
        yield from _spreads(one["ratios"])


def _processes(found: dict[str, Any]) -> Iterator[str]:
    yield f"\n{found['network']}, {found['requests']} requests, processes on one device: rows/s"
    yield from _spreads(found["rows_per_second"])
    yield from _spreads(found["ratios"])


def _spreads(spreads: dict[str, Any]) -> list[str]:
    return [f"  {name:56} {Spread(**spread)}" for name, spread in spreads.items()]
