import subprocess
import sys
from pathlib import Path

from tests.memory import in_memory


def test_a_folder_with_room_is_used(tmp_path: Path) -> None:
    assert in_memory(tmp_path, room_bytes=1) == tmp_path


def test_a_folder_that_is_nearly_full_or_not_there_is_not_used(tmp_path: Path) -> None:
    assert in_memory(tmp_path, room_bytes=2**80) is None
    assert in_memory(tmp_path / "none") is None


def test_it_is_said_as_make_asks_for_it() -> None:
    said = subprocess.run([sys.executable, "-m", "tests.memory"], capture_output=True, text=True, check=True).stdout

    assert said == str(in_memory() or "")
