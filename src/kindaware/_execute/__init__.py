"""One call of `execute`: the executor and its fast path, streams of decoupled models, sequences."""
