"""The path of a batch: requests are collated, run on the device, and split into a result per request."""
