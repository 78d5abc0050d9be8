"""Models whose processes have died or hang: found, loaded again, and given up when that doesn't help."""
