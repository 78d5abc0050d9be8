"""Tests of a real server that are too long for the test suite: `stress.fuzz` and `stress.soak`."""
