"""Redaction: what goes, what stays, and that judging does not notice."""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from envdoctor import core_check, plugins, snapshot
from envdoctor.facts import Facts, Source, Unavailable
from envdoctor.judging import bind, judge
from envdoctor.redact import Redactor, own_names, redact_document, redact_report
from envdoctor.report import Selection, TargetEntry
from envdoctor.session import Doctor, Seen
from envdoctor.tree import host_tree
from tests.support import garden
from tests.support.garden import Gates, GateStuck, Neighbours, Paths

CHECKS = (core_check.check, garden.check)
ALICE = {"user": "alice", "home": "/home/alice", "hostname": "node-q4.hpc.acme.test"}
FILE = Source("file", "/home/alice/x")


def redacted(text: str, **names: str) -> str:
    return Redactor(**{**ALICE, **names}).text(text)


# What stays as it is.


@pytest.mark.parametrize(
    "text",
    [
        "/usr/local/cuda/lib64:/usr/lib/x86_64-linux-gnu",
        "/root/.cache/pip and /home/ubuntu/.venv/bin/python",
        "torch 2.6.0+cu126, driver 580.65.06, cuDNN 9.1.0.70, OFED 5.8-1.1.2.1",
        "nvidia-cublas-cu12==12.4.5.8 nvidia-curand-cu12 10.3.5.147 nvidia-curand-cu12==10.3.5.147",
        "nvidia_cudnn_cu12-9.1.0.70.dist-info/METADATA",
        "libcublas.so.12.4.5.8 and libnvrtc-builtins.so.12.4",
        "needs 12.4.5.8 from /usr/lib",
        "[pip3] nvidia-cufft-cu12==11.2.1.3\nconnect to the server\n[pip3] nvidia-cudnn-cu12      9.1.0.70",
        "version 10.3.5.147, v10.2.1.9",
        "vbios 96.00.5E.00.01",
        "0000:3b:00.0 and 00000000:3B:00.0 at 12:34:56",
        "c10::Error::what() const + 0x12 (0x7f0012345678 in /opt/x/libc10.so)",
        "127.0.0.1:29500 127.0.1.1 0.0.0.0 255.255.255.255 224.0.0.1 ::1 :: ff02::1",
        "172.17.0.1/16 and 192.168.122.1/24",
        "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16",
        "00:00:00:00:00:00 ff:ff:ff:ff:ff:ff 01:00:5e:00:00:01",
        "https://download.pytorch.org/whl/cu126/torch-2.6.0%2Bcu126-cp311-cp311-manylinux_2_28_x86_64.whl",
        "https://github.com/pytorch/pytorch and git@github.com:pytorch/pytorch.git",
        "pip install 'vllm[flash]>=0.6' --index-url https://download.pytorch.org/whl/cu126",
        "Failed: unexpected token: 'x'; password: required",
        "in hf_raise_for_status; pad_token = tokenizer.eos_token",
        "localhost host.docker.internal ip6-localhost",
        "sha256:4d3f9a1c77aa4d3f9a1c77aa4d3f9a1c77aa4d3f9a1c77aa4d3f9a1c77aa0001",
        "the malice of alices and alice.py",
        "GPU-accelerated, GPU-0, MIG-enabled",
        "Serial Number : N/A",
        "",
    ],
)
def test_nothing_of_this_names_anyone(text: str) -> None:
    redactor = Redactor(**ALICE)
    assert redactor.text(text) == text
    assert redactor.kinds == ()


@pytest.mark.parametrize("name", ["cuda", "home", "lib", "torch", "nccl", "name"])
def test_an_account_called_like_a_term_leaves_terms_and_keys_alone(name: str) -> None:
    tree = {
        "cuda_home": "/usr/local/cuda/lib64",
        "home": f"/home/{name}",
        "library": "lib",
        "name": name,
        "text": f"/usr/local/{name}/lib: the {name} is fine",
        "lib": {"cuda": ["/usr/lib/home/lib/libcuda.so.1", f"/home/{name}/lib/python3.11"]},
        "user": name,
    }
    new = Redactor(user=name, home=f"/home/{name}", hostname=name).tree(tree)
    assert new == {
        **tree,
        "home": "/home/user1",
        "lib": {"cuda": ["/usr/lib/home/lib/libcuda.so.1", "/home/user1/lib/python3.11"]},
        "user": "user1",
    }


def test_root_at_home_in_root_changes_nothing() -> None:
    tree = {
        "canonical_root": "/root/venv/bin/python",
        "user": "root",
        "root": True,
        "home": "/root",
        "uid": 0,
    }
    redactor = Redactor(user="root", home="/root", hostname="localhost")
    assert redactor.tree(tree) == tree
    assert redactor.kinds == ()


def test_a_word_that_the_document_uses_as_a_term_is_no_name() -> None:
    tree = {
        "distributions": [{"name": "vllm", "version": "1.0"}],
        "log": "no module named vllm",
        "at": "/home/vllm/x",
    }
    new = Redactor(user="vllm", home="/home/vllm", hostname="h").tree(tree)
    assert new == {**tree, "at": "/home/user1/x"}


# What goes.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/alice/.venv/bin/python", "/home/user1/.venv/bin/python"),
        ("-L/home/alice/lib -Wl,-rpath,/home/alice/lib", "-L/home/user1/lib -Wl,-rpath,/home/user1/lib"),
        ("file:///home/alice/w.whl:/Users/bob/x", "file:///home/user1/w.whl:/Users/user2/x"),
        (
            r"C:\Users\Bob Smith\AppData and c:/Users/Bob Smith/x",
            r"C:\Users\user2\AppData and c:/Users/user2/x",
        ),
        ("/mnt/c/Users/Bob/x", "/mnt/c/Users/user2/x"),
        ("/scratch/alice/env; alice's job (alice)", "/scratch/user1/env; user1's job (user1)"),
        (
            "uid=1001(carol) gid=1001(carol) groups=44(video)",
            "uid=1001(user2) gid=1001(user2) groups=44(video)",
        ),
        ("alice@node-q4:~$ nvidia-smi", "user1@host1:~$ nvidia-smi"),
        ("[root@node-q4 ~]# ls", "[root@host1 ~]# ls"),
        ("ssh carol@node-q9 nvidia-smi", "ssh user2@host2 nvidia-smi"),
        ("on NODE-Q4 and node-q4.hpc.acme.test.", "on host1 and host1.example.com."),
        ("gone: node-q7.hpc.acme.test", "gone: host2.example.com"),
        ("May  3 08:09:10 dgx-a kernel: NVRM: Xid", "May  3 08:09:10 host2 kernel: NVRM: Xid"),
        ("2026-05-06T01:02:03+0000 dgx-a kernel: x", "2026-05-06T01:02:03+0000 host2 kernel: x"),
        ("dgx-a:411:532 [5] NCCL INFO up; dgx-a", "host2:411:532 [5] NCCL INFO up; host2"),
        ("failed to connect to (dgx-a, 29500)", "failed to connect to (host2, 29500)"),
        ("failed to connect to [dgx-a]:29500", "failed to connect to [host2]:29500"),
        ("MASTER_ADDR=dgx-a", "MASTER_ADDR=host2"),
        ("http://pypi.acme.test:8080/simple", "http://host2.example.com:8080/simple"),
        ("ip-10-0-3-7.ec2.internal", "host2.example.com"),
        ("52.12.33.4 52.12.33.9 53.1.1.4", "192.0.2.4 192.0.2.9 198.51.100.4"),
        ("connect to 8.8.8.8:53", "connect to 192.0.2.8:53"),
        ("fe80::9a03:9bff:fe12:3456%eth0<0>", "fe80::101%eth0<0>"),
        ("remoteGidsfe80::9a03:9bff:fe12:3456", "remoteGidsfe80::101"),
        ("fe80:0000:0000:0000:9a03:9bff:fe12:3456", "fe80:0000:0000:0000:0000:0000:0000:0101"),
        ("[2606:4700:1:2::1]:80 2606:4700:1:3::1", "[2001:db8:0:1::1]:80 2001:db8:0:2::1"),
        ("fd12:3456:789a::9 is near", "fd00::9 is near"),
        ("link/ether 0c:42:a1:03:00:12 0C-42-A1-03-00-12", "link/ether 02:00:00:00:00:01 02-00-00-00-00-01"),
        ("Node GUID: 0x0c42a1030012abcd", "Node GUID: 0x0000000000000001"),
        ("node_guid=0c42:a103:0012:abcd", "node_guid=0000:0000:0000:0001"),
        ("Serial Number : 1324722012345", "Serial Number : 0000000000001"),
    ],
)
def test_names_become_tokens_of_the_same_shape(text: str, expected: str) -> None:
    assert redacted(text) == expected


H100 = "5e1f0c2a-7b3d-4e9a-8c61-0d9f2b4a6c8e"
OTHER = "1b2c3d4e-aaaa-bbbb-cccc-1234567890ab"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"GPU-{H100} {OTHER} GPU-{H100.upper()}", "GPU-{1} {2} GPU-{1}"),
        (f"MIG-{OTHER} in GPU-{H100}", "MIG-{1} in GPU-{2}"),
        (f"MIG-GPU-{H100}/1/0", "MIG-GPU-{1}/1/0"),
        (f"pod{H100.replace('-', '_')}.slice", "pod{1}.slice"),
    ],
)
def test_equal_identifiers_get_equal_tokens(text: str, expected: str) -> None:
    for number in (1, 2):
        expected = expected.replace(f"{{{number}}}", f"00000000-0000-0000-0000-{number:012d}")
    if "_" in text:
        expected = expected.replace("-", "_")
    assert redacted(text) == expected


def test_the_start_of_an_identifier_means_what_it_meant() -> None:
    twin = "5e1f0c2a-0000-4e9a-8c61-0d9f2b4a6c8e"
    redactor = Redactor()
    one, start, stranger = redactor.tree([f"GPU-{H100}", "GPU-5e1f0c2a", "GPU-77777777"])
    assert one == start != stranger
    first, second, ambiguous = Redactor().tree([f"GPU-{H100}", f"GPU-{twin}", "GPU-5e1f0c2a"])
    assert first.startswith(ambiguous)
    assert second.startswith(ambiguous)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("hf_abcdefghijklmnopqrstuvwxyzABCDEFGH", "abcdefghij"),
        ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "0123456789"),
        ("https://bob:hunter2@pypi.acme.test/simple", "hunter2"),
        ("https://token-abc123@pypi.acme.test/simple", "abc123"),
        ("curl 'https://x.acme.test/a?sig=aZ09aZ09aZ09aZ09aZ09&y=1'", "aZ09aZ09"),
        ("https://x.acme.test/t/aZ09bbCCdd11eeFF22gg33/w.whl", "aZ09bbCC"),
        ("https://conda.anaconda.org/t/ab-12345678/main", "12345678"),
        ("Authorization: Bearer abc.def-0123456789", "0123456789"),
        ("WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567", "0123456789abcdef"),
        ("password='correct1horse'", "correct1horse"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "eyJzdWIi"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "MIIE"),
    ],
)
def test_secrets_are_hidden(text: str, secret: str) -> None:
    redactor = Redactor(**ALICE)
    new = redactor.text(text)
    assert secret in text
    assert secret not in new
    assert "REDACTED" in new
    assert "secrets" in redactor.kinds
    assert Redactor(**ALICE).text(new) == new


def test_what_stands_under_a_key_of_secrets_is_one() -> None:
    new = Redactor().tree({"HF_TOKEN": "short", "tokenizers": "0.21.0", "TOKENIZERS_PARALLELISM": "false"})
    assert new == {"HF_TOKEN": "REDACTED", "tokenizers": "0.21.0", "TOKENIZERS_PARALLELISM": "false"}


def test_a_list_of_nodes_stays_as_long_as_it_was() -> None:
    new = Redactor().tree({"SLURM_JOB_NODELIST": "dgx[01-04],login-a", "SLURMD_NODENAME": "dgx02"})
    assert new == {"SLURM_JOB_NODELIST": "host2[01-04],host3", "SLURMD_NODENAME": "host1"}


def test_labels_and_keys_tell_versions_from_addresses() -> None:
    tree = {
        "version": "192.168.7.9",
        "distributions": {"nvidia-curand-cu12": "10.3.5.147"},
        "evidence": [
            {"fact": "cuDNN version", "value": "52.1.0.70"},
            {"fact": "address", "value": "9.1.0.70"},
        ],
        "gateway": "9.1.0.70",
    }
    new = Redactor().tree(tree)
    assert new["version"] == "192.168.7.9"
    assert new["distributions"] == tree["distributions"]
    assert [each["value"] for each in new["evidence"]] == ["52.1.0.70", "192.0.2.70"]
    assert new["gateway"] == "192.0.2.70"


def test_a_name_is_known_before_the_place_that_shows_it() -> None:
    new = Redactor().tree(
        ["job of dave on dgx-b", "dave@dgx-b:~$ ", {"serial": "1324722012345"}, "n 1324722012345"]
    )
    assert new == ["job of user1 on host1", "user1@host1:~$ ", {"serial": "0000000000001"}, "n 0000000000001"]


def test_a_home_in_an_unusual_place_keeps_its_shape() -> None:
    redactor = Redactor(user="dave", home="/data/people/dave", hostname="x")
    assert redactor.text("/data/people/dave/.venv:/data/people") == "/data/people/user1/.venv:/data/people"
    redactor = Redactor(user="dave", home="/data/people/cuda", hostname="x")
    assert redactor.text("/data/people/cuda/a /usr/local/cuda") == "/data/people/user1/a /usr/local/cuda"


def test_tokens_that_are_there_already_are_kept_and_not_given_away() -> None:
    tree = [
        "/home/user1/x",
        "/home/alice/x",
        "GPU-00000000-0000-0000-0000-000000000001",
        f"GPU-{H100}",
        "host1 MASTER_ADDR=dgx-b",
    ]
    new = Redactor(user="alice", home="/home/alice", hostname="").tree(tree)
    assert new[0] == tree[0]
    assert new[1] != tree[0]
    assert new[2] == tree[2]
    assert new[3] != tree[2]
    assert new[4] == "host1 MASTER_ADDR=host2"


# Addresses: class, equality and neighbourhood.

private = st.sampled_from(
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"]
)
in_private = private.flatmap(lambda network: st.ip_addresses(network=network))
addresses4 = st.one_of(in_private, st.ip_addresses(v=4))
ALLOWED = [
    ipaddress.ip_network(each)
    for each in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15")
]


def all_redacted(addresses: list[Any]) -> list[Any]:
    new = Redactor().tree([f"addr {each}" for each in addresses])
    return [ipaddress.ip_address(each.removeprefix("addr ")) for each in new]


def class_of(address: Any) -> str:
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"):
        if address in ipaddress.ip_network(network):
            return network
    kinds = ("is_loopback", "is_link_local", "is_multicast", "is_unspecified", "is_private")
    return next((kind for kind in kinds if getattr(address, kind)), "public")


@settings(max_examples=300, deadline=None)
@given(st.lists(addresses4, min_size=2, max_size=6))
def test_ipv4_addresses_keep_class_equality_and_neighbourhood(addresses: list[Any]) -> None:
    new = all_redacted(addresses)
    for before, after in zip(addresses, new, strict=True):
        if class_of(before) == "public":
            assert after == before or any(after in network for network in ALLOWED)
        else:
            assert class_of(after) == class_of(before)
    for (one, two), (one_after, two_after) in zip(
        itertools.combinations(addresses, 2), itertools.combinations(new, 2), strict=True
    ):
        assert (one == two) == (one_after == two_after)
        lengths = range(8, 33) if "/" in class_of(one) and class_of(one) == class_of(two) else range(24, 33)
        for length in lengths:
            before = two in ipaddress.ip_network(f"{one}/{length}", strict=False)
            assert before == (two_after in ipaddress.ip_network(f"{one_after}/{length}", strict=False))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.ip_addresses(v=6), min_size=2, max_size=5))
def test_ipv6_addresses_keep_class_equality_and_neighbourhood(addresses: list[Any]) -> None:
    def kind(address: Any) -> str:
        names = ("is_loopback", "is_link_local", "is_site_local", "is_multicast", "is_unspecified")
        return next((name for name in names if getattr(address, name)), "other")

    new = all_redacted(addresses)
    assert [kind(each) for each in new] == [kind(each) for each in addresses]
    for (one, two), (one_after, two_after) in zip(
        itertools.combinations(addresses, 2), itertools.combinations(new, 2), strict=True
    ):
        assert (one == two) == (one_after == two_after)
        before = two in ipaddress.ip_network(f"{one}/64", strict=False)
        assert before == (two_after in ipaddress.ip_network(f"{one_after}/64", strict=False))


@pytest.mark.parametrize(
    "address", ["10.31.7.9", "10.0.0.12", "192.168.1.10", "172.16.0.4", "172.31.9.9", "100.100.1.2"]
)
def test_a_private_address_does_not_stay_what_it_is(address: str) -> None:
    assert redacted(f"inet {address}") != f"inet {address}"


@given(in_private, st.integers(1, 30))
def test_networks_stay_networks(address: Any, length: int) -> None:
    network = ipaddress.ip_network(f"{address}/{length}", strict=False)
    ipaddress.ip_network(Redactor().text(str(network)))


def test_a_mapped_address_is_mapped_as_the_plain_one() -> None:
    plain, mapped, exploded = Redactor().tree(
        ["inet 10.77.3.44", "::ffff:10.77.3.44", "0000:0000:0000:0000:0000:ffff:0a4d:032c"]
    )
    assert mapped == "::ffff:" + plain.removeprefix("inet ")
    assert ipaddress.ip_address(exploded) == ipaddress.ip_address(mapped)
    assert len(exploded) == 39


# Whole documents.


def machine() -> Facts:
    gates = Gates(
        gates=(garden.Gate(f"GPU-{H100}", "1324722012345"), garden.Gate(f"GPU-{OTHER}", "1324722012346")),
        visible="GPU-5e1f0c2a",
        tags=frozenset(("alice",)),
        source=FILE,
    )
    paths = Paths(
        cuda_home="/home/alice/cuda-12.6",
        home="/home/alice",
        search=("/usr/local/cuda/lib64",),
        user="alice",
        source=FILE,
    )
    around = Neighbours(
        hostname="node-q4",
        addresses={
            "eth0": "10.31.7.9/20",
            "lo": "127.0.0.1/8",
            "ib0": "169.254.3.4/16",
            "eth1": "52.12.33.4/24",
        },
        master_addr="10.31.14.200",
        log=("May  3 08:09:10 node-q4 kernel: NVRM: GPU-5e1f0c2a", "serial 1324722012345 of alice"),
        source=FILE,
    )
    said = GateStuck(
        gate=2, quote="alice@node-q4: gate 2 is stuck", source=Source("text", "/home/alice/log", 3)
    )
    return Facts.of(gates, paths, around, said).merged(
        Facts(
            unavailable={
                core_check.PluginsState: Unavailable("envdoctor.plugins-state", "/home/alice: denied")
            }
        )
    )


def judged(facts: Facts) -> list[tuple[Any, ...]]:
    found = judge(bind(CHECKS, facts)).findings
    return [
        (each.rule, each.finding.subject, each.finding.severity, each.consequence_of, each.finding.title)
        for each in found
    ]


@pytest.mark.parametrize(
    "names",
    [
        ALICE,
        {"user": "gates", "home": "/home/alice", "hostname": "eth0"},
        {"user": "", "home": "", "hostname": ""},
    ],
)
def test_the_judgement_is_the_same(names: dict[str, str]) -> None:
    facts = machine()
    assert len(judged(facts)) >= 3
    document, kinds = redact_document(snapshot.to_document(facts, "2026-01-02T03:04:05Z"), **names)
    _, again = snapshot.decode(snapshot.encode(document), "m.json", CHECKS)
    assert judged(again) == judged(facts)
    assert document.recorded.redacted
    assert kinds == ("UUIDs", "serial numbers", "IP addresses", "account names", "host names")


def test_nothing_that_names_someone_is_left_and_no_key_is_changed() -> None:
    before = snapshot.to_document(machine(), "2026-01-02T03:04:05Z")
    document, _ = redact_document(before, **ALICE)
    text = snapshot.encode(document).decode()
    for private_thing in (
        "alice",
        "node-q4",
        "acme",
        H100,
        OTHER,
        "5e1f0c2a",
        "13247220",
        "10.31.",
        "52.12.33",
    ):
        assert private_thing not in text
    assert keys_of(json.loads(text)) == keys_of(json.loads(snapshot.encode(before)))


def keys_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: keys_of(each) for key, each in value.items()}
    return [keys_of(each) for each in value] if isinstance(value, list) else type(value)


def test_unknown_facts_are_redacted_as_well() -> None:
    before = snapshot.to_document(machine(), "2026-01-02T03:04:05Z")
    _, strange = snapshot.decode(snapshot.encode(before), "m.json", (core_check.check,))
    document, _ = redact_document(snapshot.to_document(strange, "2026-01-02T03:04:05Z"), **ALICE)
    assert "alice" not in snapshot.encode(document).decode()


def test_a_document_without_names_only_gets_the_mark() -> None:
    before = snapshot.to_document(Facts.of(Gates(source=Source("file", "/proc/x"))), "2026-01-02T03:04:05Z")
    document, kinds = redact_document(before, **ALICE)
    assert kinds == ()
    text = snapshot.encode(document).decode()
    assert text.replace('"redacted": true', '"redacted": false') == snapshot.encode(before).decode()


trees = st.recursive(
    st.text() | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(trees)
def test_the_shape_of_any_document_stays(tree: Any) -> None:
    assert keys_of(Redactor(**ALICE).tree(tree)) == keys_of(tree)


# Whose names.


def test_own_names_come_from_the_environment_and_the_password_file(tmp_path: Any) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/data/alice:/bin/sh\n"
    )
    (tmp_path / "etc/hostname").write_text("node-q4\n")
    assert own_names(host_tree(tmp_path, uid=1000, environ={})) == {
        "user": "alice",
        "home": "/data/alice",
        "hostname": "node-q4",
    }
    other = own_names(host_tree(tmp_path, uid=1000, environ={"USER": "al", "HOME": "/home/al"}))
    assert (other["user"], other["home"]) == ("al", "/home/al")


def test_a_long_log_takes_no_long_time() -> None:
    line = "May  3 08:09:10 node-q4 kernel: [12345.678] NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python a.b.c.d:"
    text = "\n".join(
        [line] * 5000 + ["x" * 100_000, "a." * 50_000, "1:" * 50_000, "/home/" * 20_000, "0-" * 50_000]
    )
    new = Redactor(**ALICE).text(text)
    assert "node-q4" not in new
    assert re.search(r"host1 kernel", new)


# Reports.


def test_a_report_keeps_its_own_vocabulary_and_loses_names() -> None:
    well = Doctor(
        plugins.Plugins((garden.check,), {"garden": plugins.EntryPoint("garden", "x:y", "garden", "1")}, ())
    )
    target = TargetEntry("live", "/home/garden/.venv/bin/python", why="VIRTUAL_ENV is /home/garden/.venv")
    report = well.report(Seen(machine(), target), Selection())
    redactor = Redactor(user="garden", home="/home/garden", hostname="node-q4")
    new = redact_report(report, redactor)
    assert [(each.id, each.role, each.severity) for each in new.findings] == [
        (each.id, each.role, each.severity) for each in report.findings
    ]
    assert [each.docs for each in new.findings] == [each.docs for each in report.findings]
    assert new.summary == report.summary
    assert [each.name for each in new.checks] == [each.name for each in report.checks]
    assert new.target.python == "/home/user1/.venv/bin/python"
    text = msgspec.json.encode(new).decode()
    assert "node-q4" not in text
    assert "/home/alice" not in text
