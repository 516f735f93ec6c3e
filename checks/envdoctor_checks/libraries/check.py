"""The check itself; every other module of this folder registers with it."""

from envdoctor.api import Check

check = Check(
    "libraries",
    "the CUDA libraries that this Python would load, and why those",
    package="envdoctor_checks.libraries",
)
