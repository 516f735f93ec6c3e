"""Facts that a text shows piece by piece add up; everything else is what the text said last."""

from __future__ import annotations

from envdoctor.variables import Variables
from tests.support.cases import doctor


def test_variables_of_several_places_are_joined() -> None:
    text = "$ export NCCL_DEBUG=INFO\n$ MASTER_PORT=29500 python train.py\nboom\n$ echo $LD_LIBRARY_PATH\n/opt/lib\n"
    seen = doctor().read(text, "-").facts.get(Variables)
    assert isinstance(seen, Variables)
    assert seen.values == {"NCCL_DEBUG": "INFO", "MASTER_PORT": "29500", "LD_LIBRARY_PATH": "/opt/lib"}
    assert not seen.complete


def test_secrets_and_strangers_are_left_out() -> None:
    text = "$ export HF_TOKEN=abc CUDA_API_KEY=def EDITOR=vi CUDA_VISIBLE_DEVICES=0\n"
    seen = doctor().read(text, "-").facts.get(Variables)
    assert isinstance(seen, Variables)
    assert seen.values == {"CUDA_VISIBLE_DEVICES": "0"}
