"""The moving anatomy that a clip shows: chambers, walls, and valves that open and close.

Notation: F frames of a clip, H x W pixels. Anatomy coordinates: x to the right, y away from the probe, the
heart some 1 long.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAFLET_THICKNESS = (0.013, 0.028, 0.050)  # half of a leaflet's, by severity: some 3, 6 and 11 mm in all
LEAFLET_MOTION = (1.0, 0.8, 0.55)  # how far a valve opens, by severity: thick leaflets are stiff
# Chambers: centre x, y, half-axes, tilt in degrees, how much they shrink in systole.
CHAMBERS = {
    "A4C": [
        (0.19, 0.35, 0.18, 0.28, -6, 0.25),
        (-0.19, 0.41, 0.11, 0.16, 8, 0.2),
        (0.20, 0.79, 0.16, 0.14, 0, -0.12),
        (-0.20, 0.75, 0.18, 0.18, 0, -0.12),
    ],
    "PLAX": [
        (-0.20, 0.50, 0.30, 0.15, 12, 0.25),
        (-0.02, 0.22, 0.25, 0.07, 12, 0.2),
        (0.27, 0.69, 0.19, 0.14, 0, -0.12),
        (0.30, 0.42, 0.20, 0.08, -8, 0.0),
    ],
    "PSAX": [
        (0.0, 0.52, 0.14, 0.14, 0, 0.0),
        (-0.02, 0.24, 0.33, 0.09, 0, 0.15),
        (0.0, 0.82, 0.20, 0.11, 0, -0.1),
        (-0.31, 0.60, 0.13, 0.16, 20, 0.1),
        (0.25, 0.51, 0.09, 0.20, -15, 0.0),
    ],
}
# Across the right ventricle: distinguishes it from the left one, also in a mirrored picture.
MODERATOR_BANDS = {"A4C": ((-0.29, 0.39), (-0.10, 0.33))}
SYSTOLIC_VALVES = "AP"  # valves that open in systole; the others do in diastole
Valve = tuple[Any, Any, Any]  # the two hinges, and the direction of forward flow
# Aortic, mitral, pulmonary and tricuspid valve.
VALVES: dict[str, dict[str, Valve]] = {
    "A4C": {"M": ((0.06, 0.62), (0.34, 0.62), (0, -1)), "T": ((-0.32, 0.555), (-0.08, 0.555), (0, -1))},
    "PLAX": {"M": ((0.09, 0.55), (0.16, 0.80), (-1, -0.15)), "A": ((0.08, 0.36), (0.10, 0.50), (1, -0.15))},
    "PSAX": {"A": ((-0.11, 0.58), (0.11, 0.58), (0.35, -1)), "P": ((0.14, 0.33), (0.32, 0.37), (0.2, 1))},
}


@dataclass(frozen=True)
class ClipContent:
    """The findings that a clip shows.

    Attributes:
        view: 'PLAX', 'PSAX', 'A4C', or anything else for a picture of no standard view.
        colour: whether colour Doppler is on.
        leaks: valves with a regurgitant jet, shown if `colour`: letters of `VALVES[view]`.
        prolapse: whether the mitral valve bows back.
        severity: 0 to 2; how thick and stiff leaflets are, and how long and wide jets.
    """

    view: str
    colour: bool
    leaks: Sequence[str]
    prolapse: bool
    severity: int


@dataclass(frozen=True)
class PixelGrid:
    """The place of each pixel, (H, W) arrays.

    Attributes:
        r: depth from the probe, 0 to 1.
        angle: from the probe's axis.
        inside: whether the sector covers it.
        x: anatomy coordinate.
        y: anatomy coordinate.
    """

    r: np.ndarray
    angle: np.ndarray
    inside: np.ndarray
    x: np.ndarray
    y: np.ndarray


def heart_echo(
    content: ClipContent, grid: PixelGrid, systole: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(F, H, W) echogenicity: myocardium, dark chambers with bright walls, leaflets."""
    x, y = grid.x, grid.y
    body = ((x / 0.62) ** 2 + ((y - 0.53) / 0.55) ** 2)[None]
    echo: np.ndarray = np.where(body < 1, 0.30, 0.15).astype(np.float32)
    echo += rng.uniform(0.3, 1.1) * np.exp(-(((body - 1) / rng.uniform(0.07, 0.14)) ** 2))  # pericardium
    echo = np.repeat(echo, len(systole), axis=0)
    beat = systole[:, None, None]
    brightness, width = rng.uniform(0.2, 0.9), rng.uniform(0.05, 0.10)  # of the chambers' walls
    for cx, cy, half_x, half_y, tilt, shrink in CHAMBERS[content.view]:
        half_x, half_y = half_x * rng.uniform(0.85, 1.15), half_y * rng.uniform(0.85, 1.15)
        cx, cy, size = cx + rng.uniform(-0.025, 0.025), cy + rng.uniform(-0.025, 0.025), 1 - shrink * beat
        c, s = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
        along, across = (x - cx) * c + (y - cy) * s, -(x - cx) * s + (y - cy) * c
        distance = np.hypot(along / half_x, across / half_y)[None] / size
        echo = np.where(distance < 1, 0.02, echo) + brightness * np.exp(-(((distance - 1.06) / width) ** 2))
    if content.view in MODERATOR_BANDS:
        band = np.array([MODERATOR_BANDS[content.view]], dtype=np.float32)
        echo = np.maximum(echo, 0.7 * np.exp(-((_distance(x, y, band) / 0.022) ** 4)))
    thickness = LEAFLET_THICKNESS[content.severity]
    for name, valve in VALVES[content.view].items():
        opening = (systole if name in SYSTOLIC_VALVES else 1 - systole) * LEAFLET_MOTION[content.severity]
        for leaflet in _leaflets(valve, opening, content.prolapse and name == "M"):
            gap = _distance(x, y, leaflet)  # (F, H, W)
            echo = np.maximum(echo, 1.25 * np.exp(-((gap / thickness) ** 4)))
    return echo


def _leaflets(valve: Valve, opening: np.ndarray, prolapse: bool) -> list[np.ndarray]:
    """The two leaflets of a valve as polylines (F, 3, 2), from the hinge to the tip."""
    a, b, direction = (np.asarray(point, dtype=np.float32) for point in valve)
    forward = direction / np.hypot(*direction)
    middle, width, openness = (a + b) / 2, np.hypot(*(b - a)), opening[:, None]
    leaflets = []
    for end in (a, b):
        closed = middle + 0.10 * width * forward
        opened = end + 0.25 * (middle - end) + 0.55 * width * forward
        tip = closed + openness * (opened - closed)  # (F, 2)
        belly = (end + tip) / 2
        if prolapse:  # bows back beyond the line of the hinges
            tip, belly = tip - 0.40 * width * forward * (1 - 0.4 * openness), belly - 0.50 * width * forward
        leaflets.append(np.stack([np.repeat(end[None], len(tip), axis=0), belly, tip], axis=1))
    return leaflets


def _distance(x: np.ndarray, y: np.ndarray, line: np.ndarray) -> np.ndarray:
    """(F, H, W) distance of each pixel from a polyline (F, K, 2)."""
    nearest = np.full((len(line), *x.shape), np.inf, dtype=np.float32)
    for k in range(line.shape[1] - 1):
        start, step = line[:, k, :, None, None], (line[:, k + 1] - line[:, k])[:, :, None, None]
        dx, dy = x - start[:, 0], y - start[:, 1]
        share = np.clip((dx * step[:, 0] + dy * step[:, 1]) / ((step**2).sum(axis=1) + 1e-9), 0, 1)
        nearest = np.minimum(nearest, np.hypot(dx - share * step[:, 0], dy - share * step[:, 1]))
    return nearest


def tissue_echo(grid: PixelGrid, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, H, W) echogenicity of no standard view: lung, liver-like tissue, or oblique cuts of cavities."""
    x, y, r = grid.x, grid.y, grid.r
    kind, drift = rng.choice(["lung", "liver", "oblique"], p=[0.25, 0.25, 0.5]), rng.uniform(-0.02, 0.02, n)
    drift = drift[:, None, None]
    if kind == "lung":  # a pleural line and its reverberations
        spacing = rng.uniform(0.16, 0.26)
        lines = np.exp(-((((r[None] + drift) % spacing - spacing / 2) / 0.018) ** 2)) * np.exp(-2.2 * r)
        return 0.10 + 0.9 * lines
    tissue = rng.uniform(0.16, 0.36) + 0.10 * np.sin(5 * x + 7 * y + rng.uniform(0, 6))
    echo = np.repeat(tissue[None], n, axis=0)
    for _ in range(rng.integers(1, 4)):
        cx, cy = rng.uniform(-0.35, 0.35), rng.uniform(0.25, 0.85)
        half = rng.uniform(0.04, 0.08) if kind == "liver" else rng.uniform(0.11, 0.24)
        distance = np.hypot((x - cx + drift) / half, (y - cy) / half * rng.uniform(0.6, 1.5))
        echo = np.where(distance < 1, 0.03, echo) + 0.3 * np.exp(-(((distance - 1.08) / 0.10) ** 2))
    return echo


def valve_coordinates(valve: Valve, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Distance of each pixel from a valve's middle along its forward flow, and across; the valve's width."""
    hinge, other, direction = (np.asarray(part, dtype=np.float32) for part in valve)
    forward = direction / np.hypot(*direction)
    dx, dy = x - (hinge + other)[0] / 2, y - (hinge + other)[1] / 2
    return (
        dx * forward[0] + dy * forward[1],
        dx * forward[1] - dy * forward[0],
        float(np.hypot(*(other - hinge))),
    )
