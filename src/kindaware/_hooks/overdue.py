"""`Overdue`: tells where a hook waits that has not returned in time, since nothing else would."""

from __future__ import annotations

import sys
import threading
from logging import Logger

from kindaware._hooks.blame import where

OVERDUE_SECONDS = 30.0


class Overdue:
    """Logs one line if the block takes longer than `OVERDUE_SECONDS`: where its thread is then.

    Args:
        logger: gets the line.
        model: name of the model.
        what: what the block runs, for the line.
    """

    def __init__(self, logger: Logger, model: str, what: str) -> None:
        self._logger = logger
        self._model = model
        self._what = what

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self._timer = threading.Timer(OVERDUE_SECONDS, self._tell)
        self._timer.name, self._timer.daemon = "kindaware-overdue", True
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        # It leaves no thread behind, and says nothing after the block.
        self._timer.join()

    def _tell(self) -> None:
        place = where(sys._current_frames().get(self._thread))
        waits = f"; it waits at {place}" if place else ""
        self._logger.warning(
            "model %r: %s has not returned for %g s%s", self._model, self._what, OVERDUE_SECONDS, waits
        )
