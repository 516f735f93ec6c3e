"""Names of people and machines: where text says that a word is one, and what it is replaced by.

A name is replaced everywhere as a whole word or path component once some place has shown that it is a name.
Where it is also an ordinary word (an account called ``cuda``), it is replaced only in such places.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.redact_words import COMMON_ACCOUNTS, COMMON_HOSTS, ORDINARY_WORDS, PUBLIC_DOMAINS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from envdoctor.redact_addresses import Numbers

_ACCOUNT = r"(?P<name>[A-Za-z_](?:[\w.-]*[\w$])?)"
_HOST = r"(?P<name>[A-Za-z0-9](?:[\w-]*\w)?(?:\.[A-Za-z0-9](?:[\w-]*\w)?)*)"
_FOLDER = r"(?P<name>[^/\\\s:;,'\"()<>|*?\[\]{}$~`=]+)"

USER_PLACES = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"(?i:\b[a-z]:(?:\\{1,2}|/)Users(?:\\{1,2}|/))(?P<name>[^\\/:*?\"<>|\r\n]+?)(?=[\\/\"']|$)",
        rf"(?<!\b[A-Za-z]:)(?:(?<![\w./~-])|(?<=-[A-Z])|(?<=file://))(?:/(?:export|var|nfs|mnt|data|host|System/Volumes/Data))?"
        rf"/(?:home|Users)/{_FOLDER}",
        rf"(?<![\w./~-])/mnt/[a-z]/Users/{_FOLDER}",
        rf"(?<![\w./])~{_ACCOUNT}(?=/)",
        rf"\b[ug]id=\d+\({_ACCOUNT}\)",
        rf"(?:^|[\s\[(]){_ACCOUNT}(?=@[\w.-]+(?::[~/]|[ \]]))",
        rf"\b(?:ssh|scp)\s+{_ACCOUNT}(?=@)",
        rf"\b(?:sudo -u|su -|runuser -u)\s+{_ACCOUNT}(?=\s|$)",
        rf"\b(?:USER|LOGNAME|USERNAME|SUDO_USER|SLURM_JOB_USER)=[\"']?{_ACCOUNT}",
        rf"\b(?i:user(?:name)?|login|owner|account)(?:=|\s*:\s*)[\"']?{_ACCOUNT}(?=[\"']?\s*(?:[,;)]|$))",
    )
)
"""Where a word is an account's name, in free text."""

HOST_PLACES = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"^(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.,]+(?:Z|[+-]\d\d:?\d\d)?) "
        rf"{_HOST} (?=[\w./()@-]+(?:\[\d+\])?:)",
        rf"(?:^|[\s|]){_HOST}:\d+:\d+ \[\d+\] (?:\S+ )?NCCL",
        rf"(?:^|[\s\[(])[A-Za-z_][\w.-]*@{_HOST}(?=:[~/]|[ \]])",
        rf"\bssh\s+(?:[\w.-]+@)?{_HOST}(?=\s|$)",
        rf"\b(?:https?|ftp|ssh|git|tcp|udp|grpc|etcd|redis|s3|wss?)://(?:[^/@\s]{{0,200}}@)?{_HOST}",
        r"\b(?i:MASTER_ADDR|HOSTNAME|SLURMD_NODENAME|NODENAME|rdzv_endpoint|host ?name|node ?name)"
        rf"\s*[:=]\s*[\"']?{_HOST}",
        rf"\bconnect(?:ed|ing|ion)? to \[?\(?[\"']?{_HOST}[\"']?(?=\]?(?:, ?\d|:\d))",
        r"(?P<name>\bip-\d{1,3}-\d{1,3}-\d{1,3}-\d{1,3}(?:\.[\w-]+)*)",
    )
)
"""Where a word is a host's name, in free text."""

USER_KEY = re.compile(r"(?i)(?:^|[_.-])(?:users?|username|logname|login)$")
HOST_KEY = re.compile(
    r"(?i)(?:^|[_.-])(?:host|hosts|hostname|hostnames|nodename|node_name|master_addr|fqdn|rdzv_endpoint)$"
)
NODE_LIST_KEY = re.compile(r"(?i)(?:^|[_.-])(?:nodelist|topology_addr)$")
"""Slurm's lists of nodes: ``gpu[01-04],login``."""
NAMING_KEY = re.compile(
    r"(?i)(?:^|[_.-])(?:name|names|kind|fact|id|distribution|distribution_like|package|packages|module|modules|library"
    r"|libraries|soname|needed|system|machine|manager|python_manager|system_manager|engine|implementation|version"
    r"|driver|symbol|symbols|prefix_length|label|state|status|mode|type|backend|flavor|variant|build)$"
)
"""Keys whose bare-word values are terms, never people or machines."""

_USER_TOKEN, _HOST_TOKEN = re.compile(r"user(\d+)"), re.compile(r"host(\d+)(?:\.example\.com)?")
_NOT_HOSTS = re.compile(r"(?i)(?:\d+(?:\.\d+)*|sha256|sha512|v\d[\w.]*|none|null|true|false)")


class Names:
    """The accounts and hosts of one document."""

    def __init__(self, numbers: Numbers, *, user: str, home: str, hostname: str) -> None:
        self._numbers = numbers
        self._homes: dict[str, str] = {}
        self._protected: set[str] = set()
        self._domains: dict[str, None] = {}
        self._patterns: tuple[int, re.Pattern[str] | None, re.Pattern[str] | None] = (-1, None, None)
        self._revision = 0
        self._own = (user, home, hostname)

    def protect(self, words: Iterable[str]) -> None:
        """Words that this document uses as terms: keys, distributions, libraries."""
        new = {word.lower() for word in words} - self._protected
        if new:
            self._protected |= new
            self._revision += 1

    def _learn_home(self, user: str, home: str) -> None:
        """A home folder outside the usual places is replaced as a whole prefix."""
        parent, _, last = home.rstrip("/").rpartition("/")
        if not parent or not _may_be_user(last) or home.startswith(("/var/lib/", "/usr/", "/etc/", "/proc/")):
            return
        if not _may_be_user(user) and last.lower() in ORDINARY_WORDS:
            return  # root at home in /data/work: a place, not a person
        self.learn_user(user if _may_be_user(user) else last)
        self._numbers.same("user", last, user if _may_be_user(user) else last)
        self._homes[f"{parent}/{last}"] = f"{parent}/{self.user(last)}"

    def reserve(self, text: str) -> None:
        """Keep tokens that a text already has for what they stand for."""
        for token in _USER_TOKEN.finditer(text):
            self._numbers.reserve("user", int(token[1]))
        for token in _HOST_TOKEN.finditer(text):
            self._numbers.reserve("host", int(token[1]))

    def _begin(self) -> None:
        """Number the names that we were given: first of all, but after the tokens that are there already."""
        user, home, hostname = self._own
        self._own = ("", "", "")
        self.learn_user(user)
        self._learn_home(user, home)
        self.learn_host(hostname)

    def learn(self, text: str) -> None:
        """Take note of every name that the text shows to be one."""
        self._begin()
        for place in USER_PLACES:
            for match in place.finditer(text):
                self.learn_user(match["name"].rstrip("."))
        for place in HOST_PLACES:
            for match in place.finditer(text):
                self.learn_host(match["name"])

    def learn_user(self, name: str) -> None:
        """An account's name, unless it is one that every machine has."""
        if _may_be_user(name) and name not in self._numbers.known("user"):
            self._numbers.of("user", name)
            self._revision += 1

    def learn_host(self, name: str) -> None:
        """A host's name, plain or fully qualified, unless it is one that every machine has."""
        if not _may_be_host(name):
            return
        short, _, domain = name.partition(".")
        if short.lower() not in self._numbers.known("host"):
            self._numbers.of("host", short.lower())
            self._revision += 1
        if domain.count(".") >= 1 and not _is_public(domain):
            self._domains[domain.lower()] = None
            self._revision += 1

    def user(self, name: str) -> str:
        """The token for an account's name."""
        if not _may_be_user(name):
            return name
        return f"user{self._numbers.of('user', name)}"

    def host(self, name: str) -> str:
        """The token for a host's name, fully qualified where the name is."""
        if not _may_be_host(name):
            return name
        short, dot, _ = name.partition(".")
        return f"host{self._numbers.of('host', short.lower())}" + (".example.com" if dot else "")

    def nodes(self, text: str) -> str:
        """A list of nodes with tokens for the names; ranges in brackets stay, so that it is as long as it was."""
        return re.sub(r"[A-Za-z][\w.-]*", lambda match: self.host(match[0].rstrip("-.")), text)

    def replaced(self, text: str) -> tuple[str, bool, bool]:
        """The text with tokens for names, and whether it held accounts and hosts."""
        before = text
        for home, token in self._homes.items():
            text = re.sub(rf"(?<![\w./~-]){re.escape(home)}(?![\w-])", token, text)
        for place in USER_PLACES:
            text = place.sub(_named(self._user_in_place), text)
        users, hosts = self._compiled()
        if users is not None:
            text = users.sub(lambda match: self.user(match[0]), text)
        middle = text
        for place in HOST_PLACES:
            text = place.sub(_named(self.host), text)
        if hosts is not None:
            text = hosts.sub(lambda match: self.host(match[0]), text)
        return text, middle != before, text != middle

    def _user_in_place(self, name: str) -> str:
        bare = name.rstrip(".")
        return self.user(bare) + name[len(bare) :]

    def is_distinctive(self, name: str) -> bool:
        """Whether the word can be nothing but a name: no ordinary word, and no term of this document."""
        low = name.lower()
        return (
            len(name) >= 3 and not name.isdigit() and low not in ORDINARY_WORDS and low not in self._protected
        )

    def _compiled(self) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
        """The known distinctive names as two patterns, made anew when a name was learned."""
        revision, users, hosts = self._patterns
        if revision != self._revision:
            users = _whole_words(filter(self.is_distinctive, map(str, self._numbers.known("user"))))
            hosts = _host_words(
                filter(self.is_distinctive, map(str, self._numbers.known("host"))), self._domains
            )
            self._patterns = (self._revision, users, hosts)
        return users, hosts


def _may_be_user(name: str) -> bool:
    if not name or name.isdigit() or name[0] in ".-":
        return False
    return name.lower() not in COMMON_ACCOUNTS and not _USER_TOKEN.fullmatch(name)


def _may_be_host(name: str) -> bool:
    low = name.lower()
    if not name or low in COMMON_HOSTS or _NOT_HOSTS.fullmatch(name) or _HOST_TOKEN.fullmatch(low):
        return False
    return not _is_public(low)


def _is_public(name: str) -> bool:
    return any(name == domain or name.endswith("." + domain) for domain in PUBLIC_DOMAINS)


def _named(replace: Callable[[str], str]) -> Callable[[re.Match[str]], str]:
    """Replace the group ``name`` of a match and leave what is around it."""

    def replaced(match: re.Match[str]) -> str:
        start, end = match.span("name")
        whole, offset = match[0], match.start()
        return whole[: start - offset] + replace(match["name"]) + whole[end - offset :]

    return replaced


def _whole_words(names: Iterator[str]) -> re.Pattern[str] | None:
    """Longest first, bounded so that neither ``flash-attn`` nor ``alice.py`` matches ``flash`` or
    ``alice``.
    """
    words = sorted(names, key=len, reverse=True)
    if not words:
        return None
    return re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, words))})(?![\w-])(?!\.\w)")


def _host_words(names: Iterator[str], domains: Iterable[str]) -> re.Pattern[str] | None:
    """Known short names with or without a domain, and every name of a known domain."""
    words = sorted(names, key=len, reverse=True)
    known = [rf"(?:{'|'.join(map(re.escape, words))})(?:\.[A-Za-z][\w-]*)*"] if words else []
    known += [rf"[\w-]+(?:\.[\w-]+)*\.{re.escape(domain)}" for domain in domains]
    if not known:
        return None
    return re.compile(rf"(?i)(?<![\w.-])(?:{'|'.join(known)})(?![\w-])")
