"""The check itself; every other module of this folder registers with it."""

from envdoctor.api import Check

check = Check("python", "the interpreter and what is installed into it", package="envdoctor_checks.python")
