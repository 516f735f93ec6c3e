"""Which CUDA libraries this Python would load, and why."""
