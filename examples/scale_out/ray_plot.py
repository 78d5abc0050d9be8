"""Draws the latency of requests to a cluster through an outage, a rollout and a scale-up."""

from latency_plot import draw_failures, draw_requests, save
from matplotlib.figure import Figure
from ray_load import DONE, EVENT

TITLES = {
    "outage": "a node is killed, until another replica runs",
    "rollout": "a change is rolled out, until both replicas are of it",
    "scale-up": "more requests than one replica answers, until another runs",
}


def plot_phases(loads, path):
    """Draw a panel for each phase, with the time from its event until all is done.

    Args:
        loads: whose requests they are, by phase.
        path: of the picture.
    """
    figure = Figure(figsize=(9, 2.4 * len(loads)), layout="constrained")
    panels = figure.subplots(len(loads), squeeze=False)[:, 0]
    for axes, (phase, load) in zip(panels, loads.items(), strict=True):
        draw_requests(axes, [(one.at, one.seconds) for one in load.answered()], "a request", "tab:blue")
        draw_failures(axes, [at for one in load.sent for at, _ in one.failures], "a request", "tab:red")
        axes.axvspan(load.marks[EVENT], load.marks[DONE], color="tab:gray", alpha=0.18, linewidth=0)
        for name, at in load.marks.items():
            if name not in (EVENT, DONE):
                axes.axvline(at, color="tab:gray", linewidth=1, linestyle="--")
                axes.text(
                    at, 0.97, f" {name}", transform=axes.get_xaxis_transform(), va="top", fontsize="small"
                )
        axes.set_title(TITLES[phase], fontsize="medium")
    panels[-1].set_xlabel("seconds")
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", fontsize="small", ncols=3)
    save(figure, path)
