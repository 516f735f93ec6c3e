"""Command lines: simple commands behind what wraps them, and what they open elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from envdoctor.text.commands import opening, openings, simple_commands
from envdoctor.text.openings import Opening
from envdoctor.text.words import words


@pytest.mark.parametrize(
    ("command", "simple"),
    [
        ("nvidia-smi", ("nvidia-smi",)),
        ("nvidia-smi -L | head -3", ("nvidia-smi -L", "head -3")),
        ("cd x && ls; id || pwd", ("cd x", "ls", "id", "pwd")),
        ("echo 'a; b' \"c | d\"", ("echo 'a; b' \"c | d\"",)),
        ("A=1 B='x y' python -c 'import a; b'", ("python -c 'import a; b'",)),
        (
            "sudo -u bob env X=1 nvidia-smi",
            ("sudo -u bob env X=1 nvidia-smi", "env X=1 nvidia-smi", "nvidia-smi"),
        ),
        ("timeout -k 5 60 ./a.out", ("timeout -k 5 60 ./a.out", "./a.out")),
        ("time ldd x.so 2>&1 | grep 'not found'", ("ldd x.so 2>&1", "grep 'not found'")),
        ("bash -lc 'module list; env'", ("bash -lc 'module list; env'", "module list", "env")),
        ("uv run python -m pip list", ("uv run python -m pip list", "python -m pip list")),
        ("for i in 1 2; do nvidia-smi -i $i; done", ("for i in 1 2", "nvidia-smi -i $i")),
        ("echo $(ls; id)", ("echo $(ls; id)",)),
        ("ls /dev/nvidia* &", ("ls /dev/nvidia*",)),
        ("python - <<'PY'\nimport os; print(1)\nPY", ("python - <<'PY'",)),
        ("docker exec -it web nvidia-smi -L", ("docker exec -it web nvidia-smi -L", "nvidia-smi -L")),
        ("ssh n2 'uname -r; ls'", ("ssh n2 'uname -r; ls'", "uname -r", "ls")),
        ("C:\\py\\python.exe -m pip list", ("C:\\py\\python.exe -m pip list",)),
        ("X=1", ("X=1",)),
        ("", ()),
    ],
)
def test_simple_commands(command: str, simple: tuple[str, ...]) -> None:
    found = simple_commands(command)
    assert [one for one in found if one != "done"] == list(simple)


@pytest.mark.parametrize(
    "command",
    [
        "nvidia-smi",
        "docker ps -a",
        "docker build -t x .",
        "docker run -d --gpus all img",
        "docker run -itd img bash",
        "docker compose up -d",
        "grep docker /proc/1/cgroup",
        "kubectl get pods",
        "ssh-keygen -t ed25519",
        "wsl --version",
        "scontrol show node n1",
        "apptainer --version",
        "ip -br addr",
        "echo docker run img bash",
    ],
)
def test_here(command: str) -> None:
    assert opening(command) is None


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("docker run -it img bash", Opening("container", "img", None)),
        (
            "docker run --rm -v /a:/b -e X=1 --gpus all -w /b img:1.2 nvidia-smi",
            Opening("container", "img:1.2", "nvidia-smi"),
        ),
        (
            "sudo podman run --rm --device nvidia.com/gpu=all img python -c 'a b'",
            Opening("container", "img", "python -c 'a b'"),
        ),
        ("docker run --rm --gpus '\"device=0\"' img", Opening("container", "img", None)),
        ("docker run --ipc host --name t img sh -c 'a; b'", Opening("container", "img", "sh -c 'a; b'")),
        ("docker exec -it web bash", Opening("container", "web", None)),
        ("docker compose -f c.yml exec -T trainer nvidia-smi", Opening("container", "trainer", "nvidia-smi")),
        ("docker logs -f web", Opening("container", "web", "")),
        ("docker compose up", Opening("container", None, "")),
        ("kubectl -n ml exec -it pod-0 -c main -- bash", Opening("container", "pod-0", None)),
        ("kubectl exec pod-0 -- nvidia-smi -L", Opening("container", "pod-0", "nvidia-smi -L")),
        ("kubectl logs job/train --tail=3", Opening("container", "job/train", "")),
        ("apptainer exec --nv -B /data img.sif python x.py", Opening("container", "img.sif", "python x.py")),
        ("singularity shell --nv img.sif", Opening("container", "img.sif", None)),
        ("ssh -p 22 user@n7", Opening("remote", "user@n7", None)),
        ("ssh n7 'nvidia-smi; id'", Opening("remote", "n7", "nvidia-smi; id")),
        ("srun -N 2 --gpus=8 --pty bash -l", Opening("job", None, None)),
        ("srun --label -n 2 python x.py", Opening("job", None, "python x.py")),
        ("wsl -d Ubuntu-22.04", Opening("wsl", "Ubuntu-22.04", None)),
        ("wsl.exe nvidia-smi", None),
        ("sudo chroot /mnt /bin/bash", Opening("chroot", "/mnt", None)),
        ("ip netns exec blue bash", Opening("namespace", "blue", None)),
    ],
)
def test_elsewhere(command: str, expected: Opening | None) -> None:
    if expected is None:
        found = opening(command)
        assert found is not None
        assert found.kind == "wsl"
    else:
        assert opening(command) == expected


def test_lists_are_compared_by_place() -> None:
    assert openings("uname -r; docker run i uname -r") == (None, Opening("container", "i", ""))
    assert set(openings("cd x && docker exec a id; docker exec a ls")) == {Opening("container", "a", "")}
    assert openings("for n in 1 2; do kubectl exec p -- id; done") == (Opening("container", "p", "id"),)


def test_words_know_where_they_stand() -> None:
    command = "a 'b c' d\\ e \"f"
    assert [word.text for word in words(command)] == ["a", "b c", "d e", '"f']
    assert all(command[word.start : word.end] for word in words(command))


@settings(deadline=None)  # the machine may be busy
@given(st.text(st.sampled_from("ab -|&;'\"\\$(){}<>=\n/") | st.characters(codec="utf-8"), max_size=80))
def test_any_command(command: str) -> None:
    simple_commands(command)
    openings(command)
    for program in ("docker run ", "kubectl exec ", "srun ", "ssh ", "apptainer exec ", "wsl -d ", "sudo "):
        simple_commands(program + command)
        openings(program + command)
