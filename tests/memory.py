"""Where files may lie that live for a moment: in memory. A disk may take a second for a thousand new ones.

`python -m tests.memory` says the folder, or nothing when this machine has none.
"""

import os
import sys
from pathlib import Path

_FOLDER = Path("/dev/shm")  # noqa: S108  temporary is what is meant
# What all tests write at once is a tenth of it.
_ROOM_BYTES = 4 * 1024**3


def in_memory(folder: Path = _FOLDER, room_bytes: int = _ROOM_BYTES) -> Path | None:
    """Return a folder in memory, `None` where there is none, or little room, or programs may not run from it."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return None
    about = os.statvfs(folder)
    has_room = about.f_bavail * about.f_frsize >= room_bytes
    return folder if has_room and not about.f_flag & os.ST_NOEXEC else None


if __name__ == "__main__":
    sys.stdout.write(str(in_memory() or ""))
