"""The plugin contract: everything of the core that a check may import."""

from envdoctor.asked import Asked
from envdoctor.check import Check, Headline, Tier, View
from envdoctor.facts import (
    CouldNotLook,
    Evidence,
    Fact,
    Facts,
    LeftOut,
    Printed,
    Source,
    Symptom,
    Unavailable,
)
from envdoctor.findings import Ask, Confidence, Finding, Findings, Severity
from envdoctor.host import Host, Stat
from envdoctor.outcomes import Outcome, gpu, imports, library
from envdoctor.platform import Platform
from envdoctor.remedies import (
    AskAdministrator,
    Change,
    DropPathEntry,
    Install,
    InstallSystem,
    NoFix,
    Reach,
    Relaunch,
    Remedy,
    Run,
    SetVariable,
    Uninstall,
    UnsetVariable,
    UpgradeDriver,
)
from envdoctor.target import Target, TargetPaths
from envdoctor.text.model import FoundBlock
from envdoctor.variables import Variables

__all__ = [
    "Ask",
    "AskAdministrator",
    "Asked",
    "Change",
    "Check",
    "Confidence",
    "CouldNotLook",
    "DropPathEntry",
    "Evidence",
    "Fact",
    "Facts",
    "Finding",
    "Findings",
    "FoundBlock",
    "Headline",
    "Host",
    "Install",
    "InstallSystem",
    "LeftOut",
    "NoFix",
    "Outcome",
    "Platform",
    "Printed",
    "Reach",
    "Relaunch",
    "Remedy",
    "Run",
    "SetVariable",
    "Severity",
    "Source",
    "Stat",
    "Symptom",
    "Target",
    "TargetPaths",
    "Tier",
    "Unavailable",
    "Uninstall",
    "UnsetVariable",
    "UpgradeDriver",
    "Variables",
    "View",
    "gpu",
    "imports",
    "library",
]
