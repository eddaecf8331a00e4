"""Other programs, run to their end."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


def run(command: Sequence[str | Path], cwd: Path | None = None) -> tuple[bool, str]:
    """Run a program; say whether it succeeded, and all it printed. One that is not there did not succeed.

    Args:
        command: Its name or path, then its arguments.
        cwd: The folder to run in; `None`: where we are.
    """
    program = shutil.which(command[0])
    if program is None:
        return False, f"{command[0]} is not installed"
    whole = [program, *command[1:]]
    ended = subprocess.run(whole, cwd=cwd, check=False, capture_output=True, text=True)  # noqa: S603 - commands of ours
    return ended.returncode == 0, ended.stdout + ended.stderr
