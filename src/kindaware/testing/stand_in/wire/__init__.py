"""Memory and data types as they cross between stub and server."""
