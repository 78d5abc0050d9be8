"""The simulated machine: its clock, streams, memory and processes. Knows no torch tensor."""
