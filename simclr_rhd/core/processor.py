"""The instructions that the processor has."""

import os
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


@cache
def has_amx() -> bool:
    """Return True for a processor that multiplies bfloat16 matrices by AMX, ten times as fast as by vectors.

    `ONEDNN_MAX_CPU_ISA` can forbid it to the library that does so.
    """
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if allowed not in ("ALL", "DEFAULT") and "AMX" not in allowed:
        return False
    try:
        return "amx_bf16" in CPUINFO.read_text().split()
    except OSError:  # no Linux
        return False
