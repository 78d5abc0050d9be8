"""A hand-written model.py of the Python backend, ported."""

from kindaware._authoring.port.port import Ported, find_tensors, port_model

__all__ = ["Ported", "find_tensors", "port_model"]
