"""What glibc's malloc keeps of memory that nobody uses any more; another libc is left as it is."""

import ctypes

_ARENA_MAX = -8


def one_arena() -> None:
    """Have all threads share one arena, from now on.

    Else each of a dozen threads keeps what it once needed. They wait for each other's `malloc` a little more: rarely,
    for who runs Python has waited for the others already.
    """
    if set_option := getattr(ctypes.CDLL(None), "mallopt", None):
        set_option(_ARENA_MAX, 1)


def give_back() -> None:
    """Return what is unused to the system, after something that took much for a while. Takes milliseconds."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
