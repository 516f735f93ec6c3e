"""What NCCL says when it fails without telling why, and two ranks on one GPU."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Reach,
    Run,
    SetVariable,
    Variables,
)
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import CollectiveFailed, CollectiveTimedOut, CollectiveWrong, DuplicateGpu
from envdoctor_checks.nccl.reasoning import COLLECTIVE, quoted


@check.rule
def duplicate_gpu(said: DuplicateGpu, variables: Variables | None) -> Findings:
    """Two ranks use the same GPU."""
    yield Finding(
        title=f"two ranks use one GPU (PCI bus {said.device})",
        detail=(
            "NCCL wants one GPU per rank. Every process begins with GPU 0 until it chooses another one, so a program that never "
            "calls torch.cuda.set_device, or calls it with a constant, puts all ranks there; so does starting more processes "
            "than there are GPUs."
        ),
        evidence=(*quoted(said), *_ranks(variables)),
        remedies=(
            Change(
                title="choose the GPU by the local rank, before anything uses CUDA",
                reach=Reach.SHELL,
                example=('torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))',),
                needs_restart="process",
                verify="nvidia-smi --query-compute-apps=pid,gpu_uuid --format=csv   # one process per GPU",
            ),
            Change(
                title="start no more processes than the node has visible GPUs",
                reach=Reach.SHELL,
                example=("torchrun --nproc_per_node=gpu train.py",),
                verify="nvidia-smi -L; echo $CUDA_VISIBLE_DEVICES",
            ),
        ),
        breaks=(COLLECTIVE,),
        shows=(COLLECTIVE,),
    )


def _ranks(variables: Variables | None) -> tuple[Evidence, ...]:
    names = ("LOCAL_RANK", "CUDA_VISIBLE_DEVICES")
    return tuple(variables.evidence(name) for name in names if variables.get(name)) if variables else ()


TELL = Run(
    title="let NCCL tell what failed",
    commands=("export NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,NET,ENV",),
    reach=Reach.SHELL,
    needs_restart="process",
    caveat="The line that matters is the first NCCL WARN, of whichever rank failed first.",
    verify="grep -m1 'NCCL WARN' the output",
)
WORDS = {
    "system": "a call into the system failed",
    "internal": "an internal error",
    "cuda": "a CUDA call failed",
    "usage": "it was used wrongly",
    "argument": "an argument is invalid",
    "remote": "another rank ended, or the network failed",
}


@check.rule
def collective_failed(said: tuple[CollectiveFailed, ...]) -> Findings:
    """NCCL failed, and its message does not tell why."""
    if said:
        yield Finding(
            title=f"NCCL failed: {WORDS[said[0].error_class]}",
            confidence=Confidence.POSSIBLE,
            detail="NCCL's error codes only name a class of failures. The reason is in its warnings, or in another rank's output.",
            evidence=quoted(*said[:2]),
            remedies=(TELL,),
            shows=(COLLECTIVE,),
            asks=(Ask("NCCL_DEBUG=INFO before the same command", "the call that failed, and on which rank"),),
        )


@check.rule
def collective_wrong_result(said: tuple[CollectiveWrong, ...]) -> Findings:
    """A test of collectives got wrong results."""
    if said:
        yield Finding(
            title="collectives give wrong results",
            confidence=Confidence.POSSIBLE,
            detail=(
                "What came out differs from what should have. Mostly it is the direct access between GPUs (IOMMU, PCIe ACS), "
                "seldom a defective GPU or cable."
            ),
            evidence=quoted(*said[:2]),
            remedies=(
                SetVariable(
                    name="NCCL_P2P_DISABLE", value="1", why="whether it is the direct access between GPUs"
                ),
            ),
            shows=(COLLECTIVE,),
            asks=(
                Ask(
                    "cat /proc/cmdline; sudo lspci -vvv | grep ACSCtl; nvidia-smi -q -d ECC",
                    "IOMMU, ACS, memory errors",
                ),
            ),
        )


@check.rule
def collective_timed_out(said: tuple[CollectiveTimedOut, ...]) -> Findings:
    """A collective operation did not end in time."""
    if said:
        operation = next((each.operation for each in said if each.operation), None)
        yield Finding(
            title=f"{operation or 'a collective operation'} did not end in time",
            confidence=Confidence.POSSIBLE,
            detail=(
                "Ranks wait for each other. One that failed, is slow (reading data, writing a checkpoint), or took another "
                "branch of the program keeps all others waiting; a network that swallows packets looks the same."
            ),
            evidence=quoted(*said[:2]),
            remedies=(
                Run(
                    title="record what each rank last did",
                    commands=(
                        "export TORCH_NCCL_TRACE_BUFFER_SIZE=2000 TORCH_NCCL_DUMP_ON_TIMEOUT=1 NCCL_DEBUG=INFO",
                    ),
                    reach=Reach.SHELL,
                    needs_restart="process",
                    caveat="Look first at the rank that failed or is missing; if one is rightly slow, give init_process_group a longer timeout.",
                    verify="torchfrtrace --prefix nccl_trace_rank_ /tmp",
                ),
            ),
            shows=(COLLECTIVE,),
            asks=(Ask("py-spy dump --pid PID, on each rank", "where each rank waits"),),
        )
