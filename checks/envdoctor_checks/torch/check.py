"""The check itself; every other module of this folder registers with it."""

from envdoctor.api import Check

check = Check(
    "torch",
    "the PyTorch build, against the machine and its sister packages",
    package="envdoctor_checks.torch",
)
