"""What an instance measures while it loads: how many threads it needs, and which settings are fastest."""
