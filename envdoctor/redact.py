"""Redaction: what names a person, a machine or a device becomes a token, the same everywhere.

Judging is not affected: equal stays equal, an address keeps its class, a path its shape. Keys are never
touched. What is replaced: UUIDs of GPUs and MIG instances (and any other), serial numbers, MAC and IP
addresses, InfiniBand GUIDs, host names, account names, home directories, and what looks like a secret. What
is left: paths below the home directory, project names, versions, and accounts and hosts that every machine
has (`envdoctor.redact_words`).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import msgspec

from envdoctor.redact_addresses import Addresses, Numbers, replaced4, replaced6
from envdoctor.redact_names import HOST_KEY, NAMING_KEY, NODE_LIST_KEY, USER_KEY, Names
from envdoctor.redact_secrets import hide_secrets, is_secret_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from envdoctor.host import Host
    from envdoctor.report import Report
    from envdoctor.snapshot import FactsDocument

Keys = tuple[str, ...]
"""The keys that lead to a value, outermost first."""

KINDS = (
    "secrets",
    "UUIDs",
    "serial numbers",
    "hardware addresses",
    "IP addresses",
    "account names",
    "host names",
)
"""What may be replaced, as `Redactor.kinds` names it."""

_UUID = re.compile(
    r"(?:(?<![0-9A-Za-z])|(?<=pod))([0-9a-fA-F]{8})([-_])([0-9a-fA-F]{4})\2([0-9a-fA-F]{4})\2([0-9a-fA-F]{4})\2([0-9a-fA-F]{12})(?![0-9A-Za-z])"
)
_UUID_TOKEN = re.compile(r"00000000([-_])0000\1(?:0000)\1(?:0000)\1(\d{12})")
_SHORT_UUID = re.compile(r"\b(GPU|MIG)-(?=[a-fA-F]*\d)([0-9a-fA-F]{6,8}(?:-[0-9a-fA-F]{0,12}){0,4})(?![\w-])")
_BARE_ID_KEY = re.compile(r"(?i)(?:^|[_.-])(?:machine_?id|boot_?id|product_uuid|instance_id)$")
_SERIAL_KEY = re.compile(r"(?i)(?:^|[_.-])serial(?:_?(?:number|no))?$")
_SERIAL = re.compile(r"(?i)\bserial(?:[ _]?(?:number|no\.?))?\s*[:=]\s*(?P<name>[A-Za-z0-9-]{6,})")
_MAC = re.compile(
    r"(?<![\w:.-])[0-9a-fA-F]{2}(?:(?::[0-9a-fA-F]{2}){5}(?:(?::[0-9a-fA-F]{2}){14})?|(?:-[0-9a-fA-F]{2}){5})(?![\w:-])"
)
_GUID_KEY = re.compile(r"(?i)guid$")
_GUID = re.compile(
    r"(?i)\b(?P<key>\w*guid\W{1,4})(?P<name>(?:0x)?[0-9a-f]{16}|[0-9a-f]{4}(?::[0-9a-f]{4}){3})\b"
)
_GUID_VALUE = re.compile(r"(?i)(?:0x)?[0-9a-f]{16}|[0-9a-f]{4}(?::[0-9a-f]{4}){3}")
_IP = re.compile(
    r"(?P<six>(?:(?<![0-9a-fA-F:.])|(?<=[g-zG-Z]:))(?=[0-9a-fA-F]*:[0-9a-fA-F]*:)[0-9a-fA-F:]{3,39}"
    r"(?:\.\d{1,3}){0,3}(?![\w:]))"
    r"|(?:(?P<before>[=<>~!]=\s?|(?<!\w)[vV](?:ersion)?[ :=]*|-)|(?<![\w.]))"
    r"(?P<name>\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2}(?!\d))?)(?P<after>:\d{1,5}\b|<\d+>)?(?![\w+]|\.\w)"
    r"(?P<dash>(?=-))?"
)
_ADDRESS_WORDS = re.compile(
    r"(?i)addr|\b(?:ips?|inet|peer|connect|socket|remote|listen|bind|rendezvous|tcp|gateway|ping|nameserver)"
)
_ADDRESS_KEY = re.compile(
    r"(?i)addr|peer|host|gateway|route|subnet|network|interface|nameserver|remote|(?:^|[_.-])ips?$"
)
_VERSION_KEY = re.compile(
    r"(?i)version|release|distribution|package|require|wheel|metadata|soname|bios|firmware|inforom|curand|cu1\d"
)
_HIGHEST_VERSION = 26
"""No component of a PyTorch machine has four-part versions beyond this: cuBLAS 12.4.5.8 is one, 52.12.33.4
is not.
"""
_ACCOUNT_FACT = re.compile(r"passwd|account")
_HOST_FACT = re.compile(r"(?:^|[.-])(?:hosts?|hostname|master)-")
_REPORT_TERMS = frozenset(
    ("id", "consequence_of", "docs", "schema", "severity", "confidence", "role", "outcome")
)
"""Keys of the report document whose values are its own vocabulary."""


class Redactor:
    """Replaces what names someone, the same by the same for as long as it lives.

    Give it everything at once (`tree`), or text by text (`text`). A name is known from the first place that
    shows it to be one, so `learn` should see all texts before the first is replaced.
    """

    def __init__(self, *, user: str = "", home: str = "", hostname: str = "") -> None:
        self._numbers = Numbers()
        self._addresses = Addresses(self._numbers)
        self._names = Names(self._numbers, user=user, home=home, hostname=hostname)
        self._kinds: set[str] = set()

    @property
    def kinds(self) -> tuple[str, ...]:
        """What was replaced so far, of `KINDS`."""
        return tuple(kind for kind in KINDS if kind in self._kinds)

    def tree(self, value: Any, keep: frozenset[str] = frozenset()) -> Any:
        """A JSON-like value, its strings redacted; keys, numbers, shape and what is under the keys `keep`
        stay.
        """
        _walk(value, (), keep, lambda text, _: self._reserve(text))
        _walk(value, (), keep, self._learn)
        return _walk(value, (), keep, self.text)

    def learn(self, text: str) -> None:
        """Take note of the names in a text without replacing anything yet."""
        self._reserve(text)
        self._learn(text, ())

    def _reserve(self, text: str) -> str:
        """Tokens that are there already keep their meaning: nothing else may get them."""
        for token in _UUID_TOKEN.finditer(text):
            self._numbers.reserve("UUID", int(token[2]))
        self._names.reserve(text)
        return text

    def _learn(self, text: str, keys: Keys) -> str:
        self._names.protect(word for key in keys for word in re.split(r"[^A-Za-z0-9]+", key) if word)
        key = _deciding(keys)
        if _is_word(text):
            if NAMING_KEY.search(key):
                self._names.protect((text, *re.split(r"[^A-Za-z0-9]+", text)))
            elif USER_KEY.search(key):
                self._names.learn_user(text)
            elif HOST_KEY.search(key):
                self._names.learn_host(text)
        if _SERIAL_KEY.search(key) and _is_serial(text):
            self._numbers.of("serial", text)
        for match in _SERIAL.finditer(text):
            if _is_serial(match["name"]):
                self._numbers.of("serial", match["name"])
        self._learn_uuids(text)
        self._names.learn(text)
        return text

    def _learn_uuids(self, text: str) -> None:
        for match in _UUID.finditer(text):
            if not _UUID_TOKEN.fullmatch(match[0]):
                self._numbers.of("UUID", match[0].replace("_", "-").lower())

    def text(self, text: str, keys: Keys = ()) -> str:
        """One redacted text. `keys` lead to it in a document: they tell a version from an address."""
        self._reserve(text)
        self._learn(text, keys)
        key = _deciding(keys)
        if is_secret_key(key) and text:
            return self._note("secrets", "REDACTED", text)
        text = self._note("secrets", hide_secrets(text, self._numbers), text)
        text = self._note("UUIDs", self._uuids(text, key), text)
        text = self._note("serial numbers", self._serials(text, key), text)
        text = self._note("hardware addresses", self._hardware(text, key), text)
        text = self._note("IP addresses", self._ip(text, keys), text)
        return self._people_and_machines(text, key)

    def _note(self, kind: str, new: str, old: str) -> str:
        if new != old:
            self._kinds.add(kind)
        return new

    def _uuids(self, text: str, key: str) -> str:
        if _BARE_ID_KEY.search(key) and re.fullmatch(r"[0-9a-f]{32}", text):
            return f"{self._numbers.of('bare id', text):032d}"
        text = _UUID.sub(self._uuid, text)
        return _SHORT_UUID.sub(self._short_uuid, text)

    def _uuid(self, match: re.Match[str]) -> str:
        if _UUID_TOKEN.fullmatch(match[0]):
            return match[0]
        number = self._numbers.of("UUID", match[0].replace("_", "-").lower())
        return match[2].join(("00000000", "0000", "0000", "0000", f"{number:012d}"))

    def _short_uuid(self, match: re.Match[str]) -> str:
        """CUDA takes any unambiguous start of a UUID: give the whole token of the one that is meant."""
        if len(match[2]) == 36 or not match[2].strip("0-"):
            return match[0]
        meant = [full for full in self._numbers.known("UUID") if str(full).startswith(match[2].lower())]
        if len(meant) > 1:
            return f"{match[1]}-00000000"  # as ambiguous as it was: every token begins so
        number = self._numbers.of("UUID", meant[0] if meant else match[2].lower())
        return f"{match[1]}-00000000-0000-0000-0000-{number:012d}"

    def _serials(self, text: str, key: str) -> str:
        if _SERIAL_KEY.search(key) and _is_serial(text):
            return self._serial(text)
        known = [str(each) for each in self._numbers.known("serial")]
        for serial in sorted(known, key=len, reverse=True):
            if serial in text:
                text = re.sub(rf"(?<![\w-]){re.escape(serial)}(?![\w-])", self._serial(serial), text)
        return text

    def _serial(self, serial: str) -> str:
        return str(self._numbers.of("serial", serial)).zfill(len(serial))

    def _hardware(self, text: str, key: str) -> str:
        if _GUID_KEY.search(key) and _GUID_VALUE.fullmatch(text):
            return self._guid(text)
        text = _GUID.sub(lambda match: match["key"] + self._guid(match["name"]), text)
        return _MAC.sub(lambda match: self._addresses.mac(match[0]), text)

    def _guid(self, guid: str) -> str:
        """An InfiniBand GUID in the notation it came in; empty ones stay."""
        digits = guid.lower().removeprefix("0x").replace(":", "")
        if not digits.strip("0") or digits.startswith("00000000000"):
            return guid
        token = f"{self._numbers.of('GUID', digits):016x}"
        if ":" in guid:
            return ":".join(token[start : start + 4] for start in range(0, 16, 4))
        return ("0x" if guid.lower().startswith("0x") else "") + token

    def _ip(self, text: str, keys: Keys) -> str:
        def new(match: re.Match[str]) -> str:
            if match["six"]:
                return replaced6(match[0], self._addresses) or match[0]
            new = replaced4(match["name"], self._addresses) if _is_address(match, text, keys) else None
            return match[0] if new is None else f"{match['before'] or ''}{new}{match['after'] or ''}"

        return _IP.sub(new, text) if "." in text or ":" in text else text

    def _people_and_machines(self, text: str, key: str) -> str:
        if _is_word(text):
            if USER_KEY.search(key):
                return self._note("account names", self._names.user(text), text)
            if HOST_KEY.search(key):
                return self._note("host names", self._names.host(text), text)
            if NODE_LIST_KEY.search(key):
                return self._note("host names", self._names.nodes(text), text)
            if NAMING_KEY.search(key):
                return text
        new, users, hosts = self._names.replaced(text)
        self._kinds.update(("account names",) * users + ("host names",) * hosts)
        return new


def _deciding(keys: Keys) -> str:
    """The key that tells what a value is: its own, but for the ``name`` in a fact about an account or a host."""
    key = keys[-1] if keys else ""
    if key == "name" and len(keys) > 1:
        if _ACCOUNT_FACT.search(keys[-2]):
            return "user"
        if _HOST_FACT.search(keys[-2]):
            return "hostname"
    return key


def _is_address(match: re.Match[str], text: str, keys: Keys) -> bool:
    """Whether four numbers with dots are an address, and not a version such as cuRAND's 10.3.5.147."""
    if any(len(part) > 1 and part[0] == "0" for part in match["name"].partition("/")[0].split(".")):
        return False
    if match["after"] or "/" in match["name"]:
        return True
    first = int(match["name"].partition(".")[0])
    if any(_VERSION_KEY.search(key) for key in keys) or match["before"] not in (None, "-"):
        return False
    if any(_ADDRESS_KEY.search(key) for key in keys) or first > _HIGHEST_VERSION:
        return True
    if match["before"] or match["dash"] is not None:
        return False
    line = text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
    return "curand" not in line.lower() if first == 10 else bool(_ADDRESS_WORDS.search(line))


def _is_serial(text: str) -> bool:
    return len(text) >= 6 and any(each.isdigit() for each in text) and len(text.lstrip("0")) > 4


def _is_word(text: str) -> bool:
    return bool(text) and not any(each in text for each in " /\\\n:@=;")


def _walk(value: Any, keys: Keys, keep: frozenset[str], change: Callable[[str, Keys], str]) -> Any:
    """Apply `change` to every string of a JSON-like value; what labels a ``value`` counts as a key to it."""
    if isinstance(value, str):
        return change(value, keys)
    if isinstance(value, (list, tuple)):
        return [_walk(each, keys, keep, change) for each in value]
    if not isinstance(value, dict):
        return value
    label = next(
        (value[each] for each in ("fact", "variable", "name") if isinstance(value.get(each), str)), None
    )
    return {
        key: each
        if key in keep
        else _walk(each, (*keys, label if key == "value" and label else str(key)), keep, change)
        for key, each in value.items()
    }


def redact_document(
    document: FactsDocument, *, user: str, home: str, hostname: str
) -> tuple[FactsDocument, tuple[str, ...]]:
    """The document without what names someone, and the kinds of things that were replaced."""
    from envdoctor.snapshot import FactsDocument

    redactor = Redactor(user=user, home=home, hostname=hostname)
    new = redactor.tree(msgspec.to_builtins(document), keep=frozenset(("schema", "recorded")))
    new["recorded"]["redacted"] = True
    return msgspec.convert(new, FactsDocument), redactor.kinds


def redact_report(report: Report, redactor: Redactor) -> Report:
    """A report without what names someone; rule ids and the document's own vocabulary stay."""
    return msgspec.convert(redactor.tree(msgspec.to_builtins(report), keep=_REPORT_TERMS), type(report))


def own_names(host: Host) -> dict[str, str]:
    """The `user`, `home` and `hostname` of whoever looks at this machine, for `redact_document`."""
    environ = host.environ
    user, home = environ.get("USER") or environ.get("LOGNAME") or "", environ.get("HOME", "")
    for line in (host.text("/etc/passwd") or "").splitlines():
        fields = line.split(":")
        if len(fields) >= 6 and fields[2] == str(host.uid):
            user, home = user or fields[0], home or fields[5]
    hostname = (host.text("/proc/sys/kernel/hostname") or host.text("/etc/hostname") or "").strip()
    if not hostname and host.live and hasattr(os, "uname"):
        hostname = os.uname().nodename
    return {"user": user, "home": home, "hostname": hostname}
