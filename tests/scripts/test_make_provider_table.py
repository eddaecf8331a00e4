import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent.parent.parent / "scripts" / "make_provider_table.py"


def test_the_committed_table_is_what_litellm_says_now() -> None:
    checked = subprocess.run(  # noqa: S603  # our own program
        [sys.executable, str(PROGRAM), "--check"],
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},  # noqa: TID251  # for a process of its own
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr[-2000:]
