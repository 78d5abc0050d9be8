"""A real tritonserver as a context manager: finding it, starting it, reading its log, ending it."""
