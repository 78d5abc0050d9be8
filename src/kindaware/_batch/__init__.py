"""A batch: requests read, collated, run on the device, and cut back into the result of each request."""
