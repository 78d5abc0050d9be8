"""What one instance measures when it loads on a server: which settings and how many threads are fastest."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from logging import Logger

from kindaware._batch.warmup import WarmUp
from kindaware._config.args import InstanceArgs
from kindaware._config.settings import Settings
from kindaware._device.modules import convert_modules, modules_of
from kindaware._errors import describe
from kindaware._hooks.interruption import stops_test
from kindaware._placement.threads import ThreadBudget
from kindaware._tuning.kept_choice import entry_of, obtain_choice
from kindaware._tuning.optimizer import Choice, Optimizer, Run
from kindaware._tuning.quiet import OthersMeasureError, measure_in_quiet
from kindaware._tuning.threads import ThreadTimes, fewer_and_fewer, measure_threads


class InstanceTuner:
    """Measures for one instance, whose modules are on their device.

    Args:
        owner: the user's object.
        args: the args of the instance.
        settings: the settings in effect.
        budget: the instance's share of the host's cores.
        warm_up: the batches that the warm-up runs; at least one.
        logger: writes to Triton's log.
        set_threads: sets torch's number of threads, for all threads that run the hooks.
    """

    def __init__(
        self,
        owner: object,
        args: InstanceArgs,
        settings: Settings,
        budget: ThreadBudget,
        warm_up: WarmUp,
        logger: Logger,
        set_threads: Callable[[int], object],
    ) -> None:
        self._owner = owner
        self._settings = settings
        self._args = args
        self._budget = budget
        self._spec = warm_up.spec
        self._logger = logger
        self._set_threads = set_threads
        is_dynamic = args.config.get("dynamic_batching") is not None
        self._requests = warm_up.requests_to_time(settings.warmup or (), is_dynamic=is_dynamic)

    def optimize(
        self, make_run: Callable[[Settings], Run], *, has_examples: bool
    ) -> tuple[Settings, ThreadBudget]:
        """Try settings, change the modules and the number of threads to what is fastest, and log it.

        Args:
            make_run: returns what runs a batch with other settings.
            has_examples: whether the hook `warmup_inputs` made the batches.

        Returns:
            The settings and the share of the cores from now on: as they were if a hook raises.
        """
        started, budget = time.monotonic(), self._budget
        entry = entry_of(self._args, self._settings, modules_of(self._owner), budget.num_threads)

        def choose() -> Choice:
            optimizer = Optimizer(
                self._owner,
                self._settings,
                self._requests,
                has_examples=has_examples,
                make_run=make_run,
                set_threads=self._set_threads,
            )
            counts = self._counts(budget.num_threads) if budget.is_limit else [budget.num_threads]
            return optimizer.choose(self._spec, counts)

        try:
            choice, was_kept = obtain_choice(entry, choose, os.environ, self._logger)
        except BaseException as error:
            if stops_test(error):
                raise
            # The warm-up meets what a hook has raised, too, unless it only does with another batch size.
            self._logger.warning("optimize: nothing tried: %s", describe(error))
            self._set_threads(budget.num_threads)
            return self._settings, budget
        settings = replace(self._settings, **choice.changes)
        convert_modules(self._owner, settings)
        self._set_threads(choice.num_threads)
        if budget.is_limit:
            budget = ThreadBudget(choice.num_threads, f"optimize, of {budget.reason}")
        how = "of an earlier start" if was_kept else f"{time.monotonic() - started:.1f} s"
        self._logger.info("optimize: %s (%s)", choice, how)
        return settings, budget

    def choose_threads(self, run: Run, overdue: AbstractContextManager[object]) -> ThreadBudget:
        """Set the number of threads to as many of the instance's share as make it faster.

        Before the modules are compiled, since torch compiles them for a number of threads.

        Args:
            run: runs a batch.
            overdue: entered while it measures.
        """
        started, budget = time.monotonic(), self._budget
        forwards = {size: functools.partial(run, one) for size, one in self._requests.items()}

        def measure(num_cores: int) -> ThreadTimes:
            return measure_threads(self._counts(num_cores), forwards, self._set_threads)

        try:
            with overdue:
                times, num_free = measure_in_quiet(measure, budget.num_threads)
        except BaseException as error:
            if stops_test(error):
                raise
            # The warm-up meets what a hook has raised, too, unless it only does with another batch size.
            why = str(error) if isinstance(error, OthersMeasureError) else describe(error).splitlines()[0]
            chosen, reason = budget.num_threads, f"{budget.reason}; not measured: {why}"
        else:
            chosen = times.fewest
            free = f" with {num_free} free" if num_free < budget.num_threads else ""
            reason = f"measured{free}, of {budget.reason}"
            seconds = time.monotonic() - started
            self._logger.info("threads %d of %d: %s (%.2f s)", chosen, num_free, times, seconds)
        self._set_threads(chosen)
        return ThreadBudget(chosen, reason)

    def _counts(self, num_cores: int) -> list[int]:
        """Return the numbers of threads to try, descending."""
        if self._settings.wait_policy == "passive":
            # The idle threads that make the others sleep are counted for all of them; one waits for none.
            return [self._budget.num_threads, 1]
        return fewer_and_fewer(num_cores)
