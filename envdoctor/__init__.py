"""envdoctor: says why PyTorch can or cannot use the GPUs of a machine, how it knows, and what to type."""

__version__ = "0.1.0"
