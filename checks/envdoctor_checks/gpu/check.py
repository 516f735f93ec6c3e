"""The check itself; every other module of this folder registers with it."""

from envdoctor.api import Check

check = Check("gpu", "the GPUs: their health, their modes, who may see them", package="envdoctor_checks.gpu")
