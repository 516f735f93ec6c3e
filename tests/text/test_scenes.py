"""Scenes: facts of a host, of its containers and of other machines stay apart."""

from __future__ import annotations

import pytest

from envdoctor.text.blocks import split_blocks
from envdoctor.text.lines import clean
from envdoctor.text.scenes import container_looking, scenes


def places(text: str) -> list[tuple[int, str, str | None, list[str | None]]]:
    return [
        (scene.place, scene.kind, scene.host or scene.target, [block.command for block in scene.blocks])
        for scene in scenes(split_blocks(clean(text)))
    ]


@pytest.mark.parametrize(
    "text",
    [
        "only output",
        "$ a\n1\n$ b\n2",
        "before\na@box:~$ a\na@box:/srv$ b\n(venv) a@box:/srv$ c",
        "a@box:~$ sudo -i\nroot@box:~# id",
        "$ sudo su\n# id\n# exit\n$ id",
        "a@box:~$ docker run -it img bash\ndocker: Error: no such image\na@box:~$ ls",
        "a@box:~$ docker ps\na@box:~$ docker build .",
        "$ python\n>>> 1\n1\n>>> exit()\n$ ls",
        "a@box:~$ salloc -N1\nsalloc: Granted\na@box:~$ ls",
    ],
)
def test_one_place(text: str) -> None:
    found = places(text)
    assert {place for place, *_ in found if place == 0} == {0}
    assert all(kind in {"machine", "container", "job"} for _, kind, *_ in found)
    assert len({place for place, kind, *_ in found if kind == "machine"}) == 1


def test_nothing() -> None:
    assert scenes(()) == ()


def test_into_a_container_and_back() -> None:
    text = (
        "a@box:~$ id\na@box:~$ docker run -it img bash\n"
        "root@0123456789ab:/# ls\nroot@0123456789ab:/# exit\na@box:~$ id"
    )
    assert places(text) == [
        (0, "machine", "box", ["id", "docker run -it img bash"]),
        (1, "container", "0123456789ab", ["ls", "exit"]),
        (0, "machine", "box", ["id"]),
    ]


def test_prompts_without_names() -> None:
    assert places("$ docker run -it img sh\n# ls /dev\n# exit\n$ ls") == [
        (0, "machine", None, ["docker run -it img sh"]),
        (1, "container", "img", ["ls /dev", "exit"]),
        (0, "machine", None, ["ls"]),
    ]


def test_a_forgotten_exit_shows_in_the_prompt() -> None:
    text = "a@box:~$ kubectl exec -it p -- bash\nroot@p:/# ls\na@box:~$ ls"
    assert [place for place, *_ in places(text)] == [0, 1, 0]


def test_single_commands_elsewhere() -> None:
    text = "a@box:~$ docker exec web nvidia-smi\nx\na@box:~$ nvidia-smi\ny\na@box:~$ docker exec web ls\nz"
    assert places(text) == [
        (0, "container", "web", ["docker exec web nvidia-smi"]),
        (1, "machine", "box", ["nvidia-smi"]),
        (0, "container", "web", ["docker exec web ls"]),
    ]


def test_mixed_lines_belong_to_nobody() -> None:
    text = "$ id\n$ uname -r; docker run i uname -r\n6\n6\n$ id"
    assert [(place, kind) for place, kind, *_ in places(text)] == [
        (0, "machine"),
        (1, "mixed"),
        (0, "machine"),
    ]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("a@login:~$ ssh n7\na@n7:~$ id\na@n7:~$ exit\na@login:~$ id", ["machine", "remote", "machine"]),
        ("a@login:~$ srun --pty bash\na@n7:~$ id", ["machine", "job"]),
        ("a@login:~$ salloc -N1\nsalloc: Granted\na@n7:~$ id", ["machine", "job"]),
        ("a@one:~$ id\na@two:~$ id\na@one:~$ id", ["machine", "machine", "machine"]),
        ("root@box:~# ip netns exec blue bash\nroot@box:~# id\nroot@box:~# exit", ["machine", "namespace"]),
        ("PS C:\\> wsl\na@PC:~$ id\na@PC:~$ exit\nPS C:\\> dir", ["machine", "wsl", "machine"]),
        ("$ id\nroot@0123456789ab:/# id", ["machine", "container"]),
        ("#5 [2/3] RUN id\n#5 0.1 0\n$ id", ["build", "machine"]),
        (
            "a@box:~$ apptainer shell x.sif\nApptainer> id\nApptainer> exit\na@box:~$ id",
            ["machine", "container", "machine"],
        ),
    ],
)
def test_kinds(text: str, kinds: list[str]) -> None:
    assert [kind for _, kind, *_ in places(text)] == kinds


def test_names_that_engines_give() -> None:
    assert container_looking("0123456789ab")
    assert container_looking("web-7d9f8b6c54-x2x7k")
    assert not container_looking("gpu-server-01")
    assert not container_looking("ip-172-31-9-40")
    assert not container_looking("123456789012")
