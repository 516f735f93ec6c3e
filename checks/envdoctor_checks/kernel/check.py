"""The check itself; every other module of this folder registers with it."""

from envdoctor.api import Check

check = Check(
    "kernel",
    "what it takes to compile a kernel, and what compiling one says",
    package="envdoctor_checks.kernel",
)
