"""A tritonserver process, found, started, watched and ended: for `kindaware serve`, and for tests."""
