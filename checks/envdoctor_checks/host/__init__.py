"""Memory, limits and virtual machines."""
