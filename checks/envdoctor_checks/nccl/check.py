"""The check itself; every other module of this folder registers with it."""

from envdoctor.api import Check

check = Check("nccl", "NCCL, Gloo and the rendezvous between ranks", package="envdoctor_checks.nccl")
