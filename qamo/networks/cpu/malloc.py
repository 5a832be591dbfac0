"""How the C library hands out memory for tensors.

glibc maps every large block anew and gives it back at once, so that each step of a network on a CPU pays a page
fault for every 4 KB of its activations: a tenth of the time at float32.
"""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD = -1  # numbers of glibc's malloc.h
M_MMAP_MAX = -4
NEVER = 2**31 - 1  # bytes


def keep_freed() -> bool:
    """From now on let freed memory stay with this process, to be used again; whether that could be set.

    Peak memory stays about the same. Of use before large tensors are made, on Linux with glibc; elsewhere it does
    nothing.
    """
    return set_options({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER})


def set_options(options: dict[int, int]) -> bool:
    """Options of glibc's mallopt by their number; whether they could be set."""
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(option, value) for option, value in options.items())
