"""Blocks: what was typed, what only looks like it, and the blocks of a shape."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from envdoctor.text.blocks import Block, find_blocks, split_blocks
from envdoctor.text.lines import clean
from envdoctor.text.shapes import BlockShape


def blocks(text: str) -> tuple[Block, ...]:
    return split_blocks(clean(text))


def typed(text: str) -> list[str | None]:
    return [block.command for block in blocks(text)]


NOT_TYPED = [
    "$ 5.00 per hour",
    "$HOME is /root",
    "It costs 5 $ in all",
    "# a comment\nx = 1",
    "# Environment\n\nUbuntu",
    "# which driver is this?",
    "## nvidia-smi",
    "# python version\n# and a remark about it",
    "> 3 comparisons",
    "a > b\n>= 4",
    "key: value\nlist:\n- one\n# comment\n- two",
    "C: drive is full",
    "C:\\a\\b.lib -> C:\\c\\d.pyd",
    "50% done",
    "% of memory",
    "git@github.com:org/repo.git",
    "https://pytorch.org/get-started/#",
    "user@host said: hello",
    "me@corp wrote > yes",
    "+ torch==2.5.1\n+ numpy==2.0",
    "--- a/run.sh\n+++ b/run.sh\n@@ -1 +1 @@\n- python a.py\n+ python b.py",
    "Run 'docker run --help' for more information",
    "Run pip install ninja to fix this",
    "!important",
    "   $ pip install inside a message",
    "| 0  NVIDIA A100 # |",
    "RUN apt-get update",
    "#0 0x00007f in raise () from /lib/libc.so.6",
    "...\n... and so on",
    ">>>>>>> branch",
    "➜  Local:   http://localhost",
    "/usr/bin/env # python",
    "[2] + done  python x.py",
    "In [the end]: nothing",
]


@pytest.mark.parametrize("text", NOT_TYPED)
def test_output_is_output(text: str) -> None:
    (block,) = blocks(text)
    assert block.command is None
    assert [line.text for line in block.lines] == text.split("\n")


PROMPTS: list[tuple[str, str, dict[str, object]]] = [
    ("$ ls -l", "ls -l", {"kind": "shell", "root": False}),
    ("(rl) $ ls", "ls", {"environment": "rl"}),
    ("ana@box:~/x$ ls", "ls", {"user": "ana", "host": "box", "directory": "~/x", "root": False}),
    ("(venv) ana@box:/srv$ ls", "ls", {"environment": "venv"}),
    ("(base) (venv) ana@box:/srv$ ls", "ls", {"environment": "base"}),
    ("ana@box:~/x (main)$ ls", "ls", {"directory": "~/x"}),
    ("ana@box:~> ls", "ls", {"host": "box"}),
    ("ana@box:~$", "", {"host": "box"}),
    ("I have no name!@4f2a1b4f2a1b:/app$ id", "id", {"user": "I have no name!"}),
    ("root@4f2a1b:/workspace# ls", "ls", {"root": True, "directory": "/workspace"}),
    ("[root@box dir]# ls", "ls", {"root": True, "directory": "dir"}),
    ("(t) [ana@box ~]$ ls", "ls", {"environment": "t", "root": False}),
    ("ana@mac dir % ls", "ls", {"host": "mac", "directory": "dir"}),
    ("ana@box ~/x> ls", "ls", {"directory": "~/x"}),
    ("box:~ # ls", "ls", {"host": "box", "root": True}),
    ("mac:proj ana$ ls", "ls", {"host": "mac", "user": "ana"}),
    ("bash-5.1# ls", "ls", {"root": True}),
    ("sh-4.2$ ls", "ls", {"root": False}),
    ("Apptainer> ls", "ls", {"container": "Apptainer"}),
    ("PS C:\\Users\\x> dir", "dir", {"kind": "powershell", "directory": "C:\\Users\\x"}),
    ("(venv) PS C:\\> dir", "dir", {"kind": "powershell", "environment": "venv"}),
    ("C:\\Users\\x>dir", "dir", {"kind": "cmd", "directory": "C:\\Users\\x"}),
    ("(v) F:\\AI> python x.py", "python x.py", {"kind": "cmd", "environment": "v"}),
    ("gpu01% nvidia-smi", "nvidia-smi", {"host": "gpu01"}),
    ("% nvidia-smi", "nvidia-smi", {"kind": "shell"}),
    ("\u276f nvidia-smi", "nvidia-smi", {"kind": "shell"}),
    ("~/x on main via v3.11 \u276f python x.py", "python x.py", {"kind": "shell"}),
    ("➜  proj git:(main) ✗ python x.py", "python x.py", {"directory": "proj"}),
    (">>> import torch", "import torch", {"kind": "python"}),
    ("In [3]: import torch", "import torch", {"kind": "ipython"}),
    ("In [3]: !nvidia-smi", "nvidia-smi", {"kind": "notebook"}),
    ("!nvidia-smi -L", "nvidia-smi -L", {"kind": "notebook"}),
    ("%pip list", "pip list", {"kind": "notebook"}),
    ("+ nvidia-smi -L", "nvidia-smi -L", {"kind": "trace"}),
    ("++ id -u", "id -u", {"kind": "trace"}),
    ("##[group]Run make test", "make test", {"kind": "actions"}),
    ("2024-11-12T10:00:01.1234567Z Run pip list", "pip list", {"kind": "actions"}),
    ("#12 [3/7] RUN pip install x", "pip install x", {"kind": "build"}),
    ("Step 3/7 : RUN pip install x", "pip install x", {"kind": "build"}),
    (" => ERROR [3/7] RUN pip install x       12.3s", "pip install x", {"kind": "build"}),
    ("# nvidia-smi", "nvidia-smi", {"root": True}),
    ("/ # ls /dev", "ls /dev", {"root": True, "directory": "/"}),
]


@pytest.mark.parametrize(("text", "command", "said"), PROMPTS)
def test_prompts(text: str, command: str, said: dict[str, object]) -> None:
    (block,) = blocks(text + "\nsome output")
    assert block.command == command
    assert [line.text for line in block.lines] == ["some output"]
    assert block.prompt is not None
    assert {name: getattr(block.prompt, name) for name in said} == said


def test_blocks_follow_each_other() -> None:
    found = blocks("It fails:\n\n$ uname -r\n6.8.0\n\n$ id -u\n0\n$ true\n$")
    assert [(block.command, block.first_line, len(block.lines)) for block in found] == [
        (None, 1, 1),
        ("uname -r", 3, 1),
        ("id -u", 6, 1),
        ("true", 8, 0),
        ("", 9, 0),
    ]


def test_prompts_of_two_lines() -> None:
    text = "┌──(kali㉿box)-[~/x]\n└─$ id -u\n0\n┌──(kali㉿box)-[~/x]\n└─$ true"
    first, second = blocks(text)
    assert first.prompt is not None
    assert (first.prompt.user, first.prompt.host, first.prompt.root) == ("kali", "box", False)
    assert [line.text for line in first.lines] == ["0"]
    assert second.command == "true"


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("$ docker run \\\n  --rm img \\\n> nvidia-smi\nok", ["docker run --rm img nvidia-smi"]),
        ("PS C:\\> pip install `\n  torch\nok", ["pip install torch"]),
        ("$ python - <<'PY'\nimport os\n$ x\nPY\nok", ["python - <<'PY'\nimport os\n$ x\nPY"]),
        ("$ cat > a <<EOF\none\ntwo\nEOF\nok", ["cat > a <<EOF\none\ntwo\nEOF"]),
        ("$ cat <<EOF\nnever ends\nok", ["cat <<EOF"]),
        ('$ python -c "\nimport os\nprint(1)"\nok', ['python -c "\nimport os\nprint(1)"']),
        ("$ echo it's\nok", ["echo it's"]),
        ("$ ls # don't mind\nok\nwon't matter\nok", ["ls # don't mind"]),
        ("$ for i in 1 2; do\n> id $i\n> done\nok", ["for i in 1 2; do\nid $i\ndone"]),
        (">>> def f():\n...     return 1\n...\n>>> f()\nok", ["def f():\n    return 1\n", "f()"]),
        ("In [1]: for i in x:\n   ...:     print(i)\nok", ["for i in x:\n    print(i)"]),
    ],
)
def test_commands_over_several_lines(text: str, commands: list[str]) -> None:
    found = blocks(text)
    assert [block.command for block in found] == commands
    assert found[-1].lines[-1].text == "ok"


def test_set_x_shows_a_pipeline_before_its_output() -> None:
    found = blocks("+ lsmod\n+ grep nvidia\nnvidia 1 0\n+ id -u\n0")
    assert [(block.command, len(block.lines)) for block in found] == [("lsmod\ngrep nvidia", 1), ("id -u", 1)]


def test_hash_after_becoming_root() -> None:
    assert typed("$ sudo -i\n# ls /dev\nnvidia0\n# this is odd\n# exit\n$ # nvidia-smi")[:3] == [
        "sudo -i",
        "ls /dev",
        "exit",
    ]
    assert typed("ana@box:~$ cat run.sh\n# python setup\necho hi") == ["cat run.sh"]
    assert typed("$ docker run -it img sh\n# nvidia-smi\nnot found")[1] == "nvidia-smi"


def test_commands_without_prompts_where_nothing_has_one() -> None:
    text = 'It fails:\nnvidia-smi -L\nGPU 0: NVIDIA L4\npython -c "import torch; print(torch.__version__)"\n2.6.0+cpu'
    assert typed(text) == [None, "nvidia-smi -L", 'python -c "import torch; print(torch.__version__)"']
    assert typed(f"$ id -u\n0\n{text}") == ["id -u"], "others have prompts, so these lines were printed"


@pytest.mark.parametrize(
    "text",
    [
        "nvidia-smi shows the GPU and torch does not",
        "python train.py fails after an hour",
        "pip install accelerate",
        "docker run hangs",
        "which driver is used here",
        "torchrun hangs on two nodes",
    ],
)
def test_prose_and_advice_are_no_commands(text: str) -> None:
    assert typed(text) == [None]


TABLE = BlockShape("table", command=r"gpu-table\b", starts=r"^\+--+\+$", ends=r"^[^|+]")
REPORT = BlockShape("report", starts=r"^Collecting report", max_lines=4)
LISTING = BlockShape("listing", command=r"ls\b.*/dev")
SHAPES = (TABLE, REPORT, LISTING)


def found(text: str) -> list[tuple[str, str | None, list[str]]]:
    return [
        (one.shape.name, one.command, [line.text for line in one.block.lines])
        for one in find_blocks(clean(text), SHAPES)
    ]


def test_no_shape_no_block() -> None:
    assert found("") == []
    assert found("$ lsmod\nnvidia 1 0") == []
    assert found("nothing + here | at all") == []


def test_shape_by_its_first_line() -> None:
    text = "Here it is\n+---+\n| a |\n+---+\nthanks"
    assert found(text) == [("table", None, ["+---+", "| a |"]), ("table", None, ["+---+"])]


def test_shape_by_its_command() -> None:
    assert found("$ sudo docker exec c ls -l /dev | cat\nnvidia0\nnvidiactl\n$ id\n0") == [
        ("listing", "ls -l /dev", ["nvidia0", "nvidiactl"])
    ]
    assert found("$ ls /dev/nvidia*\n$ id") == [("listing", "ls /dev/nvidia*", [])]
    assert found("$ gpu-table\nfailed") == [("table", "gpu-table", ["failed"])]
    assert found("$ gpu-table\nTue\n+--+\n| a |\nend")[0] == ("table", "gpu-table", ["+--+", "| a |"])


def test_shape_keeps_to_one_stream_and_its_length() -> None:
    text = "\n".join(
        ["[rank0]: Collecting report", "[rank1]: Collecting report"]
        + [f"[rank{i % 2}]: value {i}" for i in range(20)]
    )
    first, second = found(text)
    assert first[2] == ["Collecting report", "value 0", "value 2", "value 4"]
    assert second[2] == ["Collecting report", "value 1", "value 3", "value 5"]


def test_first_lines_and_scenes_of_shapes() -> None:
    text = "a@box:~$ docker exec web ls /dev\nx\na@box:~$ ls /dev\ny"
    one, two = find_blocks(clean(text), SHAPES)
    assert (one.scene, two.scene) == (0, 1)
    assert (one.block.first_line, two.block.first_line) == (1, 3)


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(
        st.sampled_from(
            [
                "$ ls",
                "# id",
                "a@b:~$ cat <<EOF",
                "EOF",
                ">>> x",
                "... y",
                "text",
                "",
                "> q",
                "'",
                "$ echo '",
                "exit",
                "$ docker run -it i bash",
                "root@abcdefabcdef:/# exit",
                "PS C:\\> x",
                "+ id",
                "+---+",
                "[rank0]: x",
            ]
        )
        | st.text(max_size=20),
        max_size=20,
    ).map("\n".join)
)
def test_any_text_is_split_without_loss(text: str) -> None:
    lines = clean(text)
    numbers = [line.number for block in split_blocks(lines) for line in block.lines]
    assert numbers == sorted(set(numbers))
    for block in split_blocks(lines):
        assert block.command is not None or block.lines
    find_blocks(lines, SHAPES)
