"""Sequences and rescheduled requests."""

import numpy as np
from behaviour import Behaviour
from differential_kit import ask, x

STATE = "[request.correlation_id(), request.flags(), sorted((t.name(), t.shape()) for t in request.inputs())]"


def part(correlation_id, flags):
    inputs = {"X": np.ones((1, 2), np.float32)}
    return ask("sequences", inputs, correlation_id=correlation_id, flags=flags)


def slot(correlation_id, flags):
    inputs = {"X": np.full((1, 2), correlation_id, np.float32)}
    return ask(
        "sequences", inputs, correlation_id=correlation_id, flags=flags, request_id=f"r{correlation_id}"
    )


SLOTS = """
    def seen(one):
        names = ["S", "E", "R"]
        found = [get(one, name).tolist() for name in names]
        x = get(one).tolist() if one.correlation_id() else "anything"
        fields = [one.request_id(), one.correlation_id(), one.flags(), sorted(one.requested_output_names())]
        return [found, x, get(one).shape, fields]
    return [report([seen(each) for each in requests]) for one in requests]
"""

SEQUENCES = {
    "sequences_side_by_side": Behaviour(
        SLOTS,
        (
            slot(21, 1),
            slot(22, 1),
            slot(23, 1),
            slot(22, 0),
            slot(21, 2),
            slot(24, 1),
            slot(23, 2),
            slot(22, 2),
            slot(24, 2),
        ),
        "sequences",
    ),
    "rescheduled_twice": Behaviour(
        f"""
        self.kept.append({STATE})
        if len(self.kept) < 3:
            request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
            return [None]
        found, self.kept = self.kept, []
        return [report(found)]
        """,
        (x(model="iterative"), *(x(model="iterative", correlation_id=4, flags=flags) for flags in (1, 0))),
        "iterative",
    ),
    "rescheduled_and_answered": Behaviour(
        "request.set_release_flags(2)\nreturn [answer([1])]", (x(model="iterative"),), "iterative"
    ),
    "rescheduled_then_raises": Behaviour(
        "request.set_release_flags(2)\nraise ValueError('boom')", (x(model="iterative"),), "iterative"
    ),
    "sequence_of_three": Behaviour(
        f"return [report({STATE}, *(attempt(lambda: get(request, name).tolist()) for name in 'SER'))]",
        (part(5, 1), part(5, 0), part(5, 2)),
        "sequences",
    ),
    "sequences_one_after_the_other": Behaviour(
        f"return [report({STATE}, *(attempt(lambda: get(request, name).tolist()) for name in 'SER'))]",
        (part(6, 1), part(6, 2), part(7, 1), part(7, 2), part(8, 3)),
        "sequences",
    ),
    "sequence_not_started_or_unnamed": Behaviour(
        f"return [report({STATE})]", (part(9, 0), part(0, 0), part(9, 2)), "sequences"
    ),
}
