"""The process behind the stand-in: what a server would do for the module."""
