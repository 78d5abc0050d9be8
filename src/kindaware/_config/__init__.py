"""What Triton and the model's author have said: instance args, the model configuration, settings."""
