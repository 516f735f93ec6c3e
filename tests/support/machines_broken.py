"""Machines on which one thing is wrong, each a healthy one with that thing done to it."""
BROKEN: dict = {}
