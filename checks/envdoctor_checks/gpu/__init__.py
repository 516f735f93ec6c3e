"""The GPUs themselves: health, modes, who may see them."""
