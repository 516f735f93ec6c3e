"""The interpreter and what is installed into it."""
