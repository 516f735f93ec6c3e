"""The check itself; every other module of this folder registers with it."""

from envdoctor.api import Check

check = Check("driver", "the NVIDIA driver, from the kernel to libcuda", package="envdoctor_checks.driver")
