"""`kindaware bench`: how fast a model is on a server. The project's own benchmarks use its load generator."""
