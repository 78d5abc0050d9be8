"""An hour of load on a real server, with faults: every answer is compared with its own request."""
