"""Tensors on simulated GPUs, whose operations are queued on the streams of the machine."""
