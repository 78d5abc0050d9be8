"""Real servers, and load on them."""
