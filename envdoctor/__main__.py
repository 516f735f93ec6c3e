"""``envdoctor`` and ``python -m envdoctor``: ``--version`` at once, everything else by the command line."""

from __future__ import annotations

import sys
from typing import NoReturn

from envdoctor import __version__


def main() -> NoReturn:
    """Run the command line. Never returns."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(f"envdoctor {__version__}")
        sys.exit(0)
    try:
        from envdoctor.cli import run
    except ImportError as error:
        print(own_installation(error), file=sys.stderr)
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(130)
    run(sys.argv[1:])


def own_installation(error: ImportError) -> str:
    """What to say where a module that envdoctor is made of cannot be imported: the doctor is ill, not the patient."""
    return (
        f"envdoctor: its own installation is broken ({error}); put it right with: "
        f"{sys.executable} -m pip install --force-reinstall envdoctor"
    )


if __name__ == "__main__":
    main()
