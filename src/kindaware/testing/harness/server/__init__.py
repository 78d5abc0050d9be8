"""The server's side of a harness: repository, checks of requests, scheduling."""
