"""Identifiers that say what they name and sort by the time they were made."""

import random
import time


def new_id(prefix: str) -> str:
    """Make an id such as `req_19f3c2b41a7d5e0c93b28f64a1`: 11 hex digits of milliseconds, then 15 of chance.

    They name things and guard nothing: whoever reads by id is asked for the right to it.

    Args:
        prefix: What is named: `req`, `job`, `file`, `batch`, `resp`, `key`, `chatcmpl`.
    """
    return f"{prefix}_{time.time_ns() // 1_000_000:011x}{random.getrandbits(60):015x}"
