"""`torch.cuda` on simulated GPUs."""
