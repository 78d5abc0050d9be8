"""Placement of an instance: its devices, its CPU threads, its malloc, and modules spread over devices."""
