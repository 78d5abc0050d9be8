"""Tensors on a simulated GPU: torch operations queued on its streams."""
