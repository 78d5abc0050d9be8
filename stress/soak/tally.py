"""What has become of the requests: counted, and by second for the plots."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

RIGHT, REFUSED, CANCELLED = "right", "refused", "cancelled"
UNLUCKY, UNAVAILABLE, ORPHANED = "unlucky", "unavailable", "orphaned"
WRONG, SWAPPED, HUNG, UNEXPECTED = "wrong", "swapped", "hung", "unexpected"

MEANINGS = {
    RIGHT: "answered, and the answer is that of the request",
    REFUSED: "faulty, and answered with an error",
    CANCELLED: "cancelled by the client on the way",
    UNLUCKY: "right, and answered with an error since a faulty one shared its batch",
    UNAVAILABLE: "answered with an error since its model was killed or reloaded",
    ORPHANED: "a stream of a process that was killed, which server 2.51 leaves open until its deadline",
    WRONG: "answered with something else than the request asks for",
    SWAPPED: "answered with what another request asks for",
    HUNG: "not answered in time",
    UNEXPECTED: "right, and answered with an error for no reason; or faulty, and answered",
}
BAD = (WRONG, SWAPPED, HUNG, UNEXPECTED)
MOST_EXAMPLES = 40


@dataclass
class Tally:
    """The outcomes of a client's requests.

    Attributes:
        started: when counting began, in seconds of `time.time`.
        outcomes: how many had which outcome, by model.
        seconds: for each second since then, the latencies of the right answers; of a stream, until its first
            item.
        examples: of what must not be.
    """

    started: float
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    examples: list[str] = field(default_factory=list)

    def note(
        self, model: str, outcome: str, began: float, detail: str = "", answered: float | None = None
    ) -> None:
        """Count a request.

        Args:
            model: that it was for.
            outcome: one of `MEANINGS`.
            began: when it was sent, in seconds of `time.time`.
            detail: what came, if that must not be.
            answered: when the first answer came; now unless said.
        """
        now = time.time()
        self.outcomes[model][outcome] += 1
        if outcome == RIGHT:
            self.seconds[int(now - self.started)].append((answered or now) - began)
        if outcome in BAD and len(self.examples) < MOST_EXAMPLES:
            self.examples.append(f"{now - self.started:.1f} s, {model}, {outcome}: {detail[:600]}")

    def merge(self, other: Tally) -> None:
        """Add another client's."""
        for model, outcomes in other.outcomes.items():
            self.outcomes[model].update(outcomes)
        for second, latencies in other.seconds.items():
            self.seconds[second] += latencies
        self.examples += other.examples

    @property
    def num_requests(self) -> int:
        """All requests."""
        return sum(one.total() for one in self.outcomes.values())

    def total(self, outcome: str) -> int:
        """The requests to all models that had an outcome."""
        return sum(one[outcome] for one in self.outcomes.values())
