"""Put the figures of the rehearsals in examples/scale_out into the pages that tell of them.

python scripts/rehearsal_tables.py              # from what is kept in examples/scale_out/results
python scripts/rehearsal_tables.py FOLDER...    # keep what kill_a_stub.py and rollout.py wrote there, first
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "examples" / "scale_out" / "results"
PICTURES = ROOT / "docs" / "_static"
BEGIN = "<!-- made by scripts/rehearsal_tables.py: begin -->"
END = "<!-- made by scripts/rehearsal_tables.py: end -->"

Figures = dict[str, Any]


def tell_kill() -> Iterator[str]:
    """Yield the lines of the page on dead models."""
    path = RESULTS / "kill.json"
    if not path.exists():
        yield "Not measured: no result is kept."
        return
    figures = json.loads(path.read_text())
    yield f"{len(figures['rounds'])} rounds, each with a server of its own:"
    yield from ("", "| | median | least | most |", "|---|---|---|---|")
    for name, one in figures["summary"].items():
        yield f"| {name} | {one['median']:,g} | {one['least']:,g} | {one['most']:,g} |"
    yield from (
        "",
        "![Time until the answer of each request, while a process is killed](../_static/kill.svg)",
    )
    yield from ("", *describe(figures))


def tell_rollout() -> Iterator[str]:
    """Yield the lines of the page on rollouts."""
    parts = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("rollout-*.json"))]
    if not parts:
        yield "Not measured: no result is kept."
        return
    yield f"| | {' | '.join(str(one['servers']) + ' servers' for one in parts)} |"
    yield "|---" * (len(parts) + 1) + "|"
    columns = [list_rollout(one) for one in parts]
    for name in columns[0]:
        yield f"| {name} | {' | '.join(one[name] for one in columns)} |"
    for one in parts:
        number = one["servers"]
        yield ""
        yield (
            "![Median and 99th percentile of the latency, and answers per second, while each of "
            f"{number} servers is ended and started again](../_static/rollout-{number}.svg)"
        )
    for one in parts:
        yield from ("", *describe(one))


def list_rollout(part: Figures) -> dict[str, str]:
    """Return the rows of one part of the rehearsal."""
    kinds = (part["grpc"], part["http"])
    tries = [one["failed_tries"] for one in kinds]
    streams, long_streams = part["short_streams"], part["long_streams"]
    num_unended = streams["without_end"] + long_streams["without_end"]
    ends = [one["seconds_to_end"] for one in part["replaced"]]
    last = [one["sticky_client"]["last_answer_after"] or 0.0 for one in part["replaced"]]
    rows = {
        "requests": f"{part['requests']:,}",
        "per second": f"{part['requests_per_second']}",
        "lost": f"{sum(one['lost'] for one in kinds)}",
        "answered with another's answer": f"{sum(one['wrong'] for one in kinds)}",
        "failed tries that a client saw": f"{sum(sum(one.values()) for one in tries)}",
        "sent again by Envoy": f"{sum(one['tries'] for one in part['sent_again_by_envoy'].values())}",
        "streams of 1 s: whole; ended with an error": _count_streams(streams),
        "streams of 60 s: whole; ended with an error": _count_streams(long_streams),
        "streams that ended early without an error": f"{num_unended}",
    }
    for kind, name in (("grpc", "gRPC"), ("http", "HTTP")):
        for when, words in (("otherwise", "otherwise"), ("ending", "while a server ends")):
            one = part[kind]["milliseconds"][when]
            rows[f"{name}, median and p99 {words}"] = f"{one['p50']:.0f} and {one['p99']:.0f} ms"
    rows["SIGTERM to the end of the process"] = f"{min(ends):.1f} to {max(ends):.1f} s"
    rows["last answer to a client that never leaves its connection"] = f"after {max(last):.1f} s"
    return rows


def _count_streams(streams: Figures) -> str:
    return f"{streams['complete']}; {sum(streams['errors'].values())}"


def describe(figures: Figures) -> Iterator[str]:
    """Yield a line on how figures were measured."""
    machine = figures["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    yield (
        f"- `{figures['command']}` on {figures['date'][:10]}; {machine['cores']} cores of "
        f"{machine['processor']}, load average {machine['load_average']} when it began; {versions}"
    )


PAGES = {"restart-dead-models": tell_kill, "roll-out": tell_rollout}


def make_block(page: str) -> str:
    """Return the block of a page, with the lines that tell where it is."""
    return "\n".join([BEGIN, "", *PAGES[page](), "", END])


def path_of(page: str) -> Path:
    """Return the file of a page."""
    return ROOT / "docs" / "how-to" / f"{page}.md"


def main(folders: list[str]) -> None:
    """Keep what lies in the folders, and write the blocks."""
    for folder in map(Path, folders):
        for kind, target in (("json", RESULTS), ("svg", PICTURES)):
            for path in (*folder.glob(f"kill.{kind}"), *folder.glob(f"rollout-*.{kind}")):
                shutil.copy(path, target)
                print(f"kept {path.name}")
    for page in PAGES:
        path = path_of(page)
        before, _, rest = path.read_text().partition(BEGIN)
        path.write_text(f"{before}{make_block(page)}{rest.partition(END)[2]}")
        print(f"wrote {path.name}")


if __name__ == "__main__":
    main(sys.argv[1:])
