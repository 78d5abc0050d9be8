"""Where an instance runs: device, threads, memory allocation, modules over several devices."""
