"""A hook for several streams at once: which of them fail if it raises, and which are set aside."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kindaware._batch.isolation_budget import IsolationBudget
from kindaware._batch.named_rows import refuse_other_mask, rows_of
from kindaware._batch.plan import Plan
from kindaware._batch.request import halve
from kindaware._device.runtime import is_out_of_memory
from kindaware._errors import KindAwareError, OutputError, UnsearchedError, describe, message
from kindaware._execute.open_stream import OpenStream
from kindaware._execute.step_runner import StepRunner
from kindaware._hooks.step_results import is_immutable

Take = Callable[[Sequence[tuple[OpenStream, Any]]], None]


@dataclass(slots=True, eq=False, repr=False)
class Stepped:
    """What has become of the streams for which a hook returned nothing.

    Attributes:
        failed: errors, and the streams that fail with each.
        aside: streams for which there was no memory, as they were before.
    """

    failed: list[tuple[Exception, list[OpenStream]]] = field(default_factory=list)
    aside: list[OpenStream] = field(default_factory=list)


class StepIsolation:
    """Runs `step`; if it raises, steps the innocent streams again, as far as their states are as they were.

    States that `step` changes in place may be changed already when it raises, and to step one of them again
    would skip an item. So then all streams of the step fail.

    Streams that haven't begun have no state that could have been changed, so `begin_batch` is repeated in the
    same way.

    Args:
        plan: plan of the instance.
        runner: runs the hooks.
        hook: name of the hook, for messages.
        call: calls it for some streams, and returns a result for each; `step` if None.
    """

    def __init__(
        self,
        plan: Plan,
        runner: StepRunner,
        *,
        hook: str = "step",
        call: Callable[[Sequence[OpenStream]], list[Any]] | None = None,
    ) -> None:
        self._hook = hook
        self._call = call or self._step
        self._model = plan.spec.name
        self._isolates = plan.settings.isolate_errors
        self._max_isolation = plan.settings.max_isolation
        self._isolation = IsolationBudget(self._max_isolation)
        self._runner = runner
        self._health = runner.device.health

    def run(self, streams: Sequence[OpenStream], take: Take) -> Stepped:
        """Step all streams once, or begin them.

        Of immutable states, those that an error names fail, and the others are stepped again; an error that
        names none is looked for by halving, with at most 2 log2(n) + 2 further steps; all of the step fail if
        the instance has spent too much of its time on that. If memory runs out, the later half is set aside,
        down to a single stream.

        Args:
            streams: at least one, oldest first.
            take: called with what `step` returned for each of some streams, before it runs for others: it may
                write over what it returned.

        Returns:
            What has become of the others; after a device fault not all of them are in it.
        """
        stepped, counters = Stepped(), self._runner.counters
        pending = [list(range(len(streams)))]
        # Each halving costs two steps, and log2(n) of them lead to a single stream; 2 more for rounding.
        num_further = int(2 * math.log2(len(streams))) + 2
        # Asked once: a search that has begun is finished.
        may_search: bool | None = None
        while pending and self._health.fault is None:
            part = pending.pop(0)
            counters.retries += len(part) < len(streams)
            group = [streams[position] for position in part]
            started = time.monotonic()
            results = self._attempt(group)
            if may_search:
                self._isolation.spend(time.monotonic() - started)
            if isinstance(results, list):
                take(list(zip(group, results, strict=True)))
                continue
            error = refuse_other_mask(results, len(part), self._hook)
            is_repeatable = all(is_immutable(one.state) for one in group) and not isinstance(
                error, OutputError
            )
            named = _named(error, len(part))
            guilty = [group[n] for n in named]
            others = [position for n, position in enumerate(part) if n not in named]
            if guilty:
                stepped.failed.append((error, guilty))
            if guilty and others and is_repeatable and num_further:
                num_further -= 1
                pending.append(others)
            elif len(part) > 1 and is_repeatable and is_out_of_memory(error):
                counters.out_of_memory += 1
                first, later = halve(part)
                stepped.aside += [streams[position] for position in later]
                pending.insert(0, first)
            elif not guilty and len(part) > 1 and is_repeatable and self._isolates and num_further > 1:
                may_search = self._isolation.allows() if may_search is None else may_search
                if may_search:
                    num_further -= 2
                    pending += halve(part)
                else:
                    stepped.failed.append((UnsearchedError(self._hook, self._max_isolation, error), group))
            elif others:
                reason = self._shared(error, len(part)) if len(part) > 1 and not is_repeatable else error
                stepped.failed.append((reason, [streams[position] for position in others]))
        return stepped

    def _attempt(self, group: Sequence[OpenStream]) -> list[Any] | Exception:
        try:
            return self._call(group)
        except BaseException as raised:
            return self._health.caught(raised)

    def _step(self, group: Sequence[OpenStream]) -> list[Any]:
        return self._runner.step([one.state for one in group], [one.request for one in group])

    def _shared(self, error: Exception, num_streams: int) -> Exception:
        """Return the error of streams that fail because one of them may be to blame."""
        if isinstance(error, OutputError):
            return error
        shared = KindAwareError(
            message(
                f"model {self._model!r} step",
                expected=f"to return for all of its {num_streams} streams",
                got=describe(error),
                remedy="return a RequestError for the stream that is to blame; or keep states in tuples or "
                "frozen dataclasses and return kindaware.Next, so that the others can be stepped again",
            )
        )
        shared.__cause__ = error
        return shared


def _named(error: Exception, num_streams: int) -> list[int]:
    """Return the positions of the streams that an error names; empty if it names none, or one too many."""
    rows = rows_of(error) or ()
    return sorted(set(rows)) if all(0 <= row < num_streams for row in rows) else []
