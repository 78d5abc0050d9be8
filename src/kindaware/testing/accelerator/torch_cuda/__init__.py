"""`torch.cuda` on simulated GPUs, and what else of torch is patched for it."""
