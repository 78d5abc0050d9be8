"""Draws the latency of requests over time."""

import matplotlib
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

BIN_SECONDS = 0.5

matplotlib.rcParams["svg.hashsalt"] = "kindaware"


def draw_latency(axes, times, name, colour):
    """Draw median and 99th percentile of each half second.

    Args:
        axes: where.
        times: when each answered request began, and how many seconds it took.
        name: of the requests.
        colour: of the lines.
    """
    begun, seconds = np.array(times).reshape(-1, 2).T
    bins = (begun / BIN_SECONDS).astype(int)
    used = np.unique(bins)
    for share, style, label in ((50, "-", "median"), (99, ":", "99th percentile")):
        values = [1000 * np.percentile(seconds[bins == one], share) for one in used]
        axes.plot(
            (used + 0.5) * BIN_SECONDS, values, style, color=colour, label=f"{name}, {label}", linewidth=1.2
        )
    _scale(axes)


def draw_requests(axes, times, name, colour):
    """Draw a point for each request; for the arguments see `draw_latency`."""
    begun, seconds = np.array(times).reshape(-1, 2).T
    # As a picture, since thousands of points make a large file.
    axes.plot(begun, 1000 * seconds, ".", color=colour, label=name, markersize=3, rasterized=True)
    _scale(axes)


def draw_failures(axes, failures, name, colour):
    """Draw a stroke at the foot for each try that failed."""
    if failures:
        low = [0.02] * len(failures)
        label = f"{name}, a failed try"
        axes.plot(failures, low, "|", color=colour, label=label, transform=axes.get_xaxis_transform())


def draw_rate(axes, times, colour):
    """Draw the answers of each half second, as a number per second."""
    begun = np.array(times).reshape(-1, 2)[:, 0]
    used, counts = np.unique((begun / BIN_SECONDS).astype(int), return_counts=True)
    axes.plot((used + 0.5) * BIN_SECONDS, counts / BIN_SECONDS, color=colour, linewidth=1.2)


def _scale(axes):
    """Give milliseconds a logarithmic axis, with plain numbers at 1, 2, 5, 10 and so on."""
    axes.set_yscale("log")
    axes.set_ylabel("milliseconds")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())


def save(figure, path):
    """Write a picture that depends on nothing but what it shows."""
    figure.savefig(path, metadata={"Date": None} if str(path).endswith(".svg") else None, dpi=150)
