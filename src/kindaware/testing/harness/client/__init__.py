"""The client's side of a harness: requests built, results and streams read."""
