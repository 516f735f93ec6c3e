"""Secrets: tokens by their published prefixes, credentials in URLs, and values that are called passwords."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envdoctor.redact_addresses import Numbers

_KEY = re.compile(
    r"(?i)(?:^|[_.-])(?:token|secret|passw(?:or)?d|passphrase|api_?key|access_?key|secret_?key|private_?key"
    r"|credentials?)$"
)

_PREFIXED = re.compile(
    r"""(?<![\w-])(?:
    (?P<prefix>hf_|gh[pousr]_|github_pat_|glpat-|sk-(?:ant-|proj-)?|xox[abeprs]-|npm_|pypi-|dckr_pat_|nvapi-|wandb_v1_
      |AKIA|ASIA|AIza|ya29\.|dop_v1_|lsv2_pt_|r8_|tskey-)
    (?=[\w./+=-]*[0-9A-Z])[A-Za-z0-9_./+=-]{16,}  # hf_raise_for_status is a function
    | eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*)""",
    re.VERBOSE,
)
_PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL)
_USERINFO = re.compile(r"(?P<before>\b[a-z][a-z0-9+]{0,15}://)(?P<name>[^/\s@\"']{1,200})(?=@)")
_BEARER = re.compile(r"(?i)(?P<before>\b(?:bearer|basic)\s+)(?P<name>[\w.~+/=-]{12,})")
_CALLED = re.compile(
    r"(?i)(?P<before>(?:\b|_|[?&-])(?:(?:token|access[_-]?key(?:id)?|signature|sig|x-amz-(?:signature|credential"
    r"|security-token))[\"']?\s*=\s*|(?:secret|passw(?:or)?d|api[_-]?key|secret[_-]?key)[\"']?\s*[=:]\s*)[\"']?)"
    r"(?P<name>[^\s\"'&,;]{6,})"
)
_PATH_TOKEN = re.compile(r"(?P<before>\bhttps?://[^\s\"'?#]{0,200}/t/)(?P<name>[\w-]{8,})(?=/)")
"""Where conda channels carry theirs."""
_IN_URL = re.compile(
    r"(?P<before>\b(?:https?|ftp|s3|wss?)://[^\s\"'?#]{0,200}/|[?&][\w.-]+=)"
    r"(?P<name>(?=[\w-]*\d)(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{20,}|(?<==)[0-9a-f]{32,})(?=[/?#&\s\"']|$)"
)
"""A long mix of cases and digits, or a long hexadecimal value of a query: random, so a key to something."""


def is_secret_key(key: str) -> bool:
    """Whether whatever stands under this key is a secret: HF_TOKEN, password, aws_secret_access_key."""
    return bool(_KEY.search(key))


def hide_secrets(text: str, numbers: Numbers) -> str:
    """The text with a token in the place of each secret; equal secrets get equal tokens."""

    def token(secret: str) -> str:
        return f"REDACTED{numbers.of('secret', secret)}"

    def value(match: re.Match[str]) -> str:
        return match[0] if _is_plain(match["name"]) else match["before"] + token(match["name"])

    text = _PRIVATE_KEY.sub(lambda match: f"-----BEGIN {match[1]}-----REDACTED-----END {match[1]}-----", text)
    text = _PREFIXED.sub(lambda match: (match["prefix"] or "") + token(match[0]), text)
    if "://" in text:
        text = _USERINFO.sub(value, text)
        text = _PATH_TOKEN.sub(value, text)
        text = _IN_URL.sub(value, text)
    text = _BEARER.sub(value, text)
    return _CALLED.sub(value, text)


def _is_plain(value: str) -> bool:
    """What is no secret: our own token, a placeholder, a number, a word of a message, the account of every
    Git URL.
    """
    return bool(
        "REDACTED" in value
        or value.startswith(("$", "<", "{", "*", "%"))
        or value in ("git", "None", "null", "true", "false")
        or value.isdigit()
        or (value.isalpha() and value.islower() and len(value) < 12)
        or (set("._") & set(value) and value.replace(".", "").replace("_", "").isalpha() and value.islower())
    )
