"""The configuration of an instance: Triton's args, the model configuration and kindaware's settings."""
