"""Draws the latency of requests through a rollout."""

from latency_plot import draw_failures, draw_latency, draw_rate, save
from matplotlib.figure import Figure


def plot_latency(load, replaced, path):
    """Draw median and 99th percentile of each half second, the failed tries, and the replacements.

    Args:
        load: whose requests they are.
        replaced: when each server was told to end, had ended, and was ready again.
        path: of the picture.
    """
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes, rates = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    for tally, name, colour in ((load.grpc, "gRPC", "tab:blue"), (load.http, "HTTP", "tab:orange")):
        draw_latency(axes, tally.times, name, colour)
        draw_failures(axes, tally.failures, name, colour)
        draw_rate(rates, tally.times, colour)
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
    figure.legend(loc="outside upper center", fontsize="small", ncols=4)
    rates.set_ylabel("answers/s")
    rates.set_xlabel("seconds")
    rates.set_ylim(0)
    save(figure, path)
