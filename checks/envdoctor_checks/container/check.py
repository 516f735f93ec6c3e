"""The check itself; every other module of this folder registers with it."""

from envdoctor.api import Check

check = Check(
    "container",
    "the container: engine, user mapping, mounts, limits, GPU runtime",
    package="envdoctor_checks.container",
)
