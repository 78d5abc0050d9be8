"""What happens to models that die, for whoever shows it."""

from __future__ import annotations

import logging
from typing import Protocol

_LOGGER = logging.getLogger("kindaware.server")


class HealEvents(Protocol):
    """Is told what happens, on any thread."""

    def died(self, model: str, reason: str) -> None:
        """A model has lost stubs, or hangs: it is unloaded."""

    def healed(self, model: str, seconds: float) -> None:
        """It is ready again, so long after it was found dead."""

    def not_healed(self, model: str, reason: str) -> None:
        """It was not loaded again; this is tried once more."""

    def gave_up(self, model: str, reason: str) -> None:
        """It is left as it is."""

    def blind(self, reason: str) -> None:
        """Something can't be watched."""


class LoggedEvents:
    """Writes what happens to the logger `kindaware.server`."""

    def died(self, model: str, reason: str) -> None:
        """Log it as a warning."""
        _LOGGER.warning("%s: %s", model, reason)

    def healed(self, model: str, seconds: float) -> None:
        """Log it as a warning, so that it is seen where the death is."""
        _LOGGER.warning("%s: ready again after %.1f s", model, seconds)

    def not_healed(self, model: str, reason: str) -> None:
        """Log it as an error."""
        _LOGGER.error("%s: not loaded again: %s", model, reason)

    def gave_up(self, model: str, reason: str) -> None:
        """Log it as an error."""
        _LOGGER.error("%s", reason)

    def blind(self, reason: str) -> None:
        """Log it as an error."""
        _LOGGER.error("%s", reason)
