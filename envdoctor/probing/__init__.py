"""What several checks share to look at a machine: readers of binary facts, and children of our own."""
