"""OpenTelemetry's spans of requests, stages, hooks and calls; imported where the setting `tracing` is on."""
