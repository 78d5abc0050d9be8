"""A real tritonserver as a process: found, started, watched and ended."""
