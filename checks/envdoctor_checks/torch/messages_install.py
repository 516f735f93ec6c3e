"""What pip, uv, poetry and conda print about torch, and the indexes that command lines name."""

from __future__ import annotations

import re

from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.symptoms import IndexNamed, RequirementNotFound, WheelTaken

FAMILY = r"(?:torch(?:vision|audio|text|codec|data|triton)?|pytorch(?:-cuda|-triton)?|triton|xformers)"


@check.message(
    rf"Could not find a version that satisfies the requirement (?P<requirement>{FAMILY}(?:\[[^\]]*\])?(?:[=<>!~]=?[^\s(;]*)*)[^(\n]*"
    r"(?:\(from versions: ?(?P<versions>[^)\n]*)\)?)?",
    needles="could not find a version that satisfies the requirement",
    sample="ERROR: Could not find a version that satisfies the requirement torch==9.9.9+cu999 (from versions: 2.1.0, 2.2.0)",
)
def pip_finds_none(match: re.Match[str]) -> RequirementNotFound:
    """pip, with the versions that fit this Python and platform."""
    listed = match["versions"]
    versions = (
        tuple(each.strip() for each in listed.split(",") if each.strip() not in ("", "none"))
        if listed is not None
        else None
    )
    return RequirementNotFound(requirement=match["requirement"], versions=versions)


@check.message(
    rf"No matching distribution found for (?P<requirement>{FAMILY}(?:[=<>!~]=?[^\s(;]*)*)\s*$",
    needles="no matching distribution found for",
    sample="ERROR: No matching distribution found for torch==9.9.9+cu999",
)
def pip_gives_up(match: re.Match[str]) -> RequirementNotFound:
    """pip's second line, for texts that lost the first."""
    return RequirementNotFound(requirement=match["requirement"])


@check.message(
    rf"Unable to find installation candidates for (?P<name>{FAMILY}) \((?P<version>[^)]+)\)",
    needles="unable to find installation candidates",
    sample="Unable to find installation candidates for torch (9.9.9+cu999)",
)
def poetry_finds_none(match: re.Match[str]) -> RequirementNotFound:
    """poetry."""
    return RequirementNotFound(requirement=f"{match['name']}=={match['version']}")


@check.message(
    rf"there (?:is|are) no versions? of (?P<name>{FAMILY})(?:\[[^\]]*\])?(?P<specifier>[=<>!~]=?\S+)?",
    needles=("there is no version of", "there are no versions of"),
    sample="  Because there is no version of torch==9.9.9+cu999 and you require torch==9.9.9+cu999, we can conclude that your requirements are unsatisfiable.",
)
def uv_finds_none(match: re.Match[str]) -> RequirementNotFound:
    """uv's resolver."""
    return RequirementNotFound(requirement=f"{match['name']}{match['specifier'] or ''}".rstrip(",."))


@check.message(
    rf"\b(?P<name>{FAMILY})(?P<specifier>[=<>]=?\S+)? (?:has|have) no wheels (?:with a matching|are available with a matching)\s+Python\s+(?:ABI|version|implementation)\s+tag"
    r"(?:\s+\(e\.g\.,\s+`(?P<python>cp\d+t?)`\))?",
    needles="no wheels",
    sample="  Because torch==1.12.0+cu113 has no wheels with a matching Python ABI\n  tag (e.g., `cp311`) and you require torch==1.12.0+cu113",
    span=3,
)
def uv_python_differs(match: re.Match[str]) -> RequirementNotFound:
    """uv, where the release has no wheel for this Python."""
    return RequirementNotFound(
        requirement=f"{match['name']}{match['specifier'] or ''}", python=match["python"] or "this Python"
    )


@check.message(
    rf"(?:PackagesNotFoundError|ResolvePackageNotFound)[^\n]*\n(?:[^\n]*\n){{0,3}}?\s*- (?P<package>{FAMILY})(?:[= ]=?(?P<version>[\w.*+]+))?|"
    rf"nothing provides (?:requested )?(?P<other>{FAMILY})(?:[= ]=?(?P<other_version>[\w.*+]+))?|(?P<missing>{FAMILY})[= ]=?(?P<missing_version>\d[\w.*+]*) does not exist",
    needles=("packagesnotfounderror", "resolvepackagenotfound", "nothing provides", "does not exist"),
    sample="PackagesNotFoundError: The following packages are not available from current channels:\n\n  - pytorch-cuda=99.9",
    span=5,
)
def conda_finds_none(match: re.Match[str]) -> RequirementNotFound:
    """conda and mamba."""
    name = match["package"] or match["other"] or match["missing"]
    version = match["version"] or match["other_version"] or match["missing_version"]
    return RequirementNotFound(requirement=f"{name}={version}" if version else name)


@check.message(
    r"(?P<option>--extra-index-url[ =]\S*|--index-url[ =]\S*|-i \S*|index-url\W+|url\W+|indexes:.*?)?download(?:-r2)?\.pytorch\.org/whl/"
    r"(?P<index>(?:(?:nightly|test)/)?[a-z]+[\d.]*)(?=[/\s'\",;)\]]|$)",
    needles="pytorch.org/whl/",
    sample="pip install torch --extra-index-url https://download.pytorch.org/whl/cu999",
)
def index_named(match: re.Match[str]) -> IndexNamed | None:
    """An index of download.pytorch.org; the ones in torch's own advice are well-formed, too."""
    return IndexNamed(index=match["index"], extra=(match["option"] or "").startswith("--extra-index-url"))


@check.message(
    r"(?:^|[\s/])torch-(?P<version>\d[\w.]*(?:(?:%2B|\+)[\w.]+)?)-cp\d+-\w+-(?P<platform>\w+)\.whl(?!\.metadata)(?:\S*)(?: \((?P<size>[\d.]+) ?(?P<unit>[kMG])i?B\))?",
    needles=("torch-",),
    sample="  Downloading torch-9.9.9-cp311-cp311-win_amd64.whl (200.1 MB)",
)
def wheel_taken(match: re.Match[str]) -> WheelTaken:
    """The file name of the wheel tells the build and the platform."""
    factor = {"k": 0.001, "M": 1.0, "G": 1000.0}
    size = float(match["size"]) * factor[match["unit"]] if match["size"] else None
    return WheelTaken(
        version=match["version"].replace("%2B", "+"), platform=match["platform"], megabytes=size
    )
