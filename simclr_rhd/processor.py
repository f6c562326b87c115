"""The instructions that the processor has."""

from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


@cache
def has_amx() -> bool:
    """Whether it multiplies bfloat16 matrices by AMX, ten times as fast as by vectors."""
    try:
        return "amx_bf16" in CPUINFO.read_text().split()
    except OSError:  # no Linux
        return False
