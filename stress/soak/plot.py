"""The plots of a run: rate, latency, memory and file descriptors over its time."""

from __future__ import annotations

import io

from stress.soak.faults import KILL, KILL_CLIENT, RELOAD
from stress.soak.figures import Figures

COLOURS = {KILL: "tab:red", RELOAD: "tab:blue", KILL_CLIENT: "tab:gray"}


def draw(figures: Figures) -> str:
    """Return the plots as SVG; equal figures give equal plots."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    matplotlib.rcParams["svg.hashsalt"] = "kindaware"
    figure = Figure(figsize=(10, 11), layout="constrained")
    rate, latency, memory, fds = figure.subplots(4, sharex=True)
    answers, seconds = figures["answers"], figures["answers"]["second"]
    rate.plot(seconds, answers["per_second"], linewidth=0.8)
    rate.set_ylabel("right answers per second")
    for name, label in (("p50_ms", "median"), ("p99_ms", "99th percentile")):
        values = [float("nan") if one is None else one for one in answers[name]]
        latency.plot(seconds, values, linewidth=0.8, label=label)
    latency.set_yscale("log")
    latency.yaxis.set_major_formatter(ScalarFormatter())
    latency.set_ylabel("time to the first answer, ms")
    latency.legend(loc="upper right", ncols=2)
    names = list(dict.fromkeys(one["name"] for one in figures["processes"]))
    labelled: set[str] = set()
    for one in figures["processes"]:
        name, colour = one["name"], f"C{names.index(one['name'])}"
        label = None if name in labelled else name
        labelled.add(name)
        memory.plot(one["second"], one["memory_mib"], color=colour, label=label, linewidth=1.2)
        fds.plot(one["second"], one["num_fds"], color=colour, linewidth=1.2)
    memory.set_ylabel("resident memory, MiB")
    memory.legend(loc="lower right", ncols=4)
    fds.set_ylabel("file descriptors")
    fds.set_xlabel("seconds")
    for plot in (rate, latency, memory, fds):
        plot.grid(visible=True, alpha=0.3)
        for fault in figures["faults"]:
            plot.axvline(fault["second"], color=COLOURS[fault["kind"]], linewidth=0.5, alpha=0.6)
    for plot in (rate, memory, fds):
        plot.set_ylim(bottom=0)
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()[written.getvalue().index("<svg") :]
