"""The stub's side of a harness: instances in process, and how their model.py is loaded and called."""
