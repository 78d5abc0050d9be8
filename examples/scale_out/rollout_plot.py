"""Draws the latency of requests through a rollout."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

BIN_SECONDS = 0.5


def plot_latency(load, replaced, path):
    """Draw median and 99th percentile of each half second, the failed tries, and the replacements.

    Args:
        load: whose requests they are.
        replaced: when each server was told to end, had ended, and was ready again.
        path: of the picture.
    """
    matplotlib.rcParams["svg.hashsalt"] = "kindaware"
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes, rates = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    for tally, name, colour in ((load.grpc, "gRPC", "tab:blue"), (load.http, "HTTP", "tab:orange")):
        begun, seconds = np.array(tally.times).reshape(-1, 2).T
        bins = (begun / BIN_SECONDS).astype(int)
        used = np.unique(bins)
        at = (used + 0.5) * BIN_SECONDS
        for share, style, label in ((50, "-", "median"), (99, ":", "99th percentile")):
            values = [1000 * np.percentile(seconds[bins == one], share) for one in used]
            axes.plot(at, values, style, color=colour, label=f"{name}, {label}", linewidth=1.2)
        rates.plot(at, [np.sum(bins == one) / BIN_SECONDS for one in used], color=colour, linewidth=1.2)
        if tally.failures:
            low = [0.02] * len(tally.failures)
            label = f"{name}, a failed try"
            axes.plot(
                tally.failures, low, "|", color=colour, label=label, transform=axes.get_xaxis_transform()
            )
    for number, one in enumerate(replaced):
        for panel in (axes, rates):
            panel.axvspan(
                one["sigterm_at"],
                one["ended_at"],
                color="tab:red",
                alpha=0.18,
                linewidth=0,
                label="SIGTERM until the end" if panel is axes and not number else None,
            )
            panel.axvspan(
                one["ended_at"],
                one["ready_at"],
                color="tab:gray",
                alpha=0.18,
                linewidth=0,
                label="starting again" if panel is axes and not number else None,
            )
    axes.set_yscale("log")
    axes.set_ylabel("milliseconds")
    for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis(ScalarFormatter())
    figure.legend(loc="outside upper center", fontsize="small", ncols=4)
    rates.set_ylabel("answers/s")
    rates.set_xlabel("seconds")
    rates.set_ylim(0)
    figure.savefig(path, metadata={"Date": None} if str(path).endswith(".svg") else None)
