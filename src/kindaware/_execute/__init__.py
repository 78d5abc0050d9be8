"""One call of `execute`: the executor and its fast path, streams, sequences."""
