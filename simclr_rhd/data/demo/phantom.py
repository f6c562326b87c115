"""Synthetic echo clips: what a scanner would show of simple, moving anatomy.

Echogenicity (chambers, walls, valves that open and close over the cardiac cycle), times speckle that is made
in the probe's polar coordinates, log-compressed and cut to a sector; colour Doppler is laid over a box. What
is asked for is drawn, and nothing else tells it: gain, depth, position, rotation, sector angle and colour box
come from other random numbers.

Notation: F frames of a clip, H x W pixels. Anatomy coordinates: x to the right, y away from the probe, the
heart some 1 long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter1d, map_coordinates

HEIGHT, WIDTH = 96, 128
LEAFLET_THICKNESS = (0.011, 0.022, 0.038)  # half of a leaflet's, by severity
JET_LENGTHS = (0.20, 0.30, 0.42)  # length of a regurgitant jet, by severity
# Chambers: centre x, y, half-axes, tilt in degrees, how much they shrink in systole.
CHAMBERS = {
    "A4C": [
        (0.20, 0.36, 0.17, 0.26, -6, 0.25),
        (-0.19, 0.40, 0.12, 0.20, 8, 0.2),
        (0.20, 0.79, 0.17, 0.15, 0, -0.12),
        (-0.20, 0.77, 0.16, 0.15, 0, -0.12),
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
        (0.32, 0.48, 0.09, 0.20, -15, 0.0),
    ],
}
SYSTOLIC_VALVES = "AP"  # valves that open in systole; the others do in diastole
TOWARDS, AWAY = (200, 50, 20), (25, 70, 210)  # the colours of flow to the probe and away from it
MOSAIC_COLOURS = (
    (250, 220, 60),
    (60, 230, 220),
    (240, 240, 200),
    (250, 140, 30),
    (70, 200, 90),
)  # of a fast jet
Valve = tuple[Any, Any, Any]  # the two hinges, and the direction of forward flow
# Aortic, mitral, pulmonary and tricuspid valve.
VALVES: dict[str, dict[str, Valve]] = {
    "A4C": {"M": ((0.06, 0.62), (0.34, 0.62), (0, -1)), "T": ((-0.33, 0.60), (-0.07, 0.60), (0, -1))},
    "PLAX": {"M": ((0.09, 0.55), (0.16, 0.80), (-1, -0.15)), "A": ((0.08, 0.36), (0.10, 0.50), (1, -0.15))},
    "PSAX": {"A": ((-0.11, 0.58), (0.11, 0.58), (0.35, -1)), "P": ((0.22, 0.30), (0.40, 0.33), (0.2, 1))},
}


@dataclass(frozen=True)
class ScanSettings:
    """How a patient images, whatever the clip."""

    gain: float
    scale: float
    aspect: float


def draw_clip(
    view: str,
    *,
    n_frames: int,
    colour: bool,
    leaks: Sequence[str],
    prolapse: bool,
    severity: int,
    scan: ScanSettings,
    rng: np.random.Generator,
) -> np.ndarray:
    """One clip.

    Args:
        view: 'PLAX', 'PSAX', 'A4C', or anything else for a picture of no standard view.
        n_frames: F, spread over about a cardiac cycle.
        colour: whether colour Doppler is on.
        leaks: valves with a regurgitant jet, shown if `colour`: letters of `VALVES[view]`.
        prolapse: whether the mitral valve bows back.
        severity: 0 to 2; how thick leaflets and how long jets are.
        scan: how the patient images.
        rng: everything random.

    Returns:
        (F, H, W, 3) uint8.
    """
    phase = (rng.random() + np.arange(n_frames) * rng.uniform(0.17, 0.24)) % 1
    systole = 0.5 - 0.5 * np.cos(2 * np.pi * phase)  # (F,) 0 filled, 1 contracted
    r, angle, inside = _polar(rng)
    x, y = _anatomy_coordinates(scan, r, angle, rng)
    if view in VALVES:
        echo = _heart(view, x, y, systole, severity, prolapse, rng)
    else:
        echo = _no_heart(x, y, r, n_frames, rng)
    frames = _scan(echo, r, angle, inside, scan.gain, rng)
    return _doppler(frames, view, x, y, systole, inside, leaks, severity, rng) if colour else frames


def _polar(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(H, W) each: depth (0 to 1) and angle of a pixel from the probe, and whether the sector covers it."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    top, centre = rng.uniform(1, 6), WIDTH / 2 + rng.uniform(-7, 7)
    reach = HEIGHT - rng.uniform(8, 14)
    down, across = (rows - top + 3) / reach, (columns - centre) / reach
    r, angle = np.hypot(down, across), np.arctan2(across, down)
    return r, angle, (np.abs(angle) < np.radians(rng.uniform(36, 44))) & (r > 0.06) & (r < 1)


def _anatomy_coordinates(
    scan: ScanSettings, r: np.ndarray, angle: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Where in the heart each pixel is: the probe is shifted, turned and set to some depth."""
    turn, zoom = np.radians(rng.uniform(-32, 32)), rng.uniform(0.85, 1.25) / scan.scale
    across, down = (
        r * np.sin(angle) + rng.uniform(-0.13, 0.13),
        r * np.cos(angle) - 0.5 + rng.uniform(-0.1, 0.1),
    )
    x = (across * np.cos(turn) - down * np.sin(turn)) * zoom * scan.aspect
    y = (across * np.sin(turn) + down * np.cos(turn)) * zoom / scan.aspect + 0.52
    return x, y


def _heart(
    view: str,
    x: np.ndarray,
    y: np.ndarray,
    systole: np.ndarray,
    severity: int,
    prolapse: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """(F, H, W) echogenicity: myocardium, dark chambers with bright walls, leaflets."""
    body = ((x / 0.62) ** 2 + ((y - 0.53) / 0.55) ** 2)[None]
    echo = np.where(body < 1, 0.30, 0.15) + 0.6 * np.exp(-(((body - 1) / 0.10) ** 2))  # pericardium
    echo = np.repeat(echo, len(systole), axis=0)
    beat = systole[:, None, None]
    for cx, cy, half_x, half_y, tilt, shrink in CHAMBERS[view]:
        half_x, half_y = half_x * rng.uniform(0.85, 1.15), half_y * rng.uniform(0.85, 1.15)
        cx, cy, size = cx + rng.uniform(-0.025, 0.025), cy + rng.uniform(-0.025, 0.025), 1 - shrink * beat
        c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
        along, across = (x - cx) * c + (y - cy) * s, -(x - cx) * s + (y - cy) * c
        distance = np.hypot(along / half_x, across / half_y)[None] / size
        echo = np.where(distance < 1, 0.02, echo) + 0.35 * np.exp(-(((distance - 1.06) / 0.07) ** 2))
    for name, valve in VALVES[view].items():
        opening = systole if name in SYSTOLIC_VALVES else 1 - systole
        for leaflet in _leaflets(valve, opening, prolapse and name == "M"):
            gap = _distance(x, y, leaflet)  # (F, H, W)
            echo = np.maximum(echo, 1.25 * np.exp(-((gap / (LEAFLET_THICKNESS[severity] + 0.006)) ** 4)))
    return echo


def _leaflets(valve: Valve, opening: np.ndarray, prolapse: bool) -> list[np.ndarray]:
    """The two leaflets of a valve as polylines (F, 3, 2), from the hinge to the tip."""
    a, b, ahead = (np.asarray(point, dtype=float) for point in valve)
    ahead = ahead / np.hypot(*ahead)
    middle, width, wide = (a + b) / 2, np.hypot(*(b - a)), opening[:, None]
    leaflets = []
    for end in (a, b):
        closed = middle + 0.10 * width * ahead
        opened = end + 0.25 * (middle - end) + 0.55 * width * ahead
        tip = closed + wide * (opened - closed)  # (F, 2)
        belly = (end + tip) / 2
        if prolapse:  # bows back beyond the line of the hinges
            tip, belly = tip - 0.30 * width * ahead * (1 - 0.6 * wide), belly - 0.42 * width * ahead
        leaflets.append(np.stack([np.repeat(end[None], len(tip), axis=0), belly, tip], axis=1))
    return leaflets


def _distance(x: np.ndarray, y: np.ndarray, line: np.ndarray) -> np.ndarray:
    """(F, H, W) distance of each pixel from a polyline (F, K, 2)."""
    nearest = np.full((len(line), *x.shape), np.inf)
    for k in range(line.shape[1] - 1):
        start, step = line[:, k, :, None, None], (line[:, k + 1] - line[:, k])[:, :, None, None]
        dx, dy = x - start[:, 0], y - start[:, 1]
        share = np.clip((dx * step[:, 0] + dy * step[:, 1]) / ((step**2).sum(axis=1) + 1e-9), 0, 1)
        nearest = np.minimum(nearest, np.hypot(dx - share * step[:, 0], dy - share * step[:, 1]))
    return nearest


def _no_heart(x: np.ndarray, y: np.ndarray, r: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, H, W) echogenicity of no standard view: lung, liver-like tissue, or oblique cuts of cavities."""
    kind, drift = rng.choice(["lung", "liver", "oblique"], p=[0.25, 0.25, 0.5]), rng.uniform(-0.02, 0.02, n)
    drift = drift[:, None, None]
    if kind == "lung":  # a pleural line and its reverberations
        spacing = rng.uniform(0.16, 0.26)
        lines = np.exp(-((((r[None] + drift) % spacing - spacing / 2) / 0.018) ** 2)) * np.exp(-2.2 * r)
        return 0.10 + 0.9 * lines
    echo = np.repeat(0.32 + 0.10 * np.sin(5 * x + 7 * y + rng.uniform(0, 6))[None], n, axis=0)  # tissue
    for _ in range(rng.integers(1, 4)):
        cx, cy = rng.uniform(-0.35, 0.35), rng.uniform(0.25, 0.85)
        half = rng.uniform(0.04, 0.08) if kind == "liver" else rng.uniform(0.11, 0.24)
        distance = np.hypot((x - cx + drift) / half, (y - cy) / half * rng.uniform(0.6, 1.5))
        echo = np.where(distance < 1, 0.03, echo) + 0.3 * np.exp(-(((distance - 1.08) / 0.10) ** 2))
    return echo


def _scan(
    echo: np.ndarray,
    r: np.ndarray,
    angle: np.ndarray,
    inside: np.ndarray,
    gain: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """(F, H, W) echogenicity -> (F, H, W, 3) uint8 grey: speckle, attenuation, gain, log compression."""
    grid = np.stack([r * 80, (angle / np.radians(45) + 1) * 27 + 2])
    still = _speckle(rng, grid)
    attenuation = np.exp(-rng.uniform(0.3, 1.2) * r) * (1 - 0.35 * (np.abs(angle) / np.radians(45)) ** 2)
    shade = 1 - rng.uniform(0, 0.7) * np.exp(
        -(((angle - rng.uniform(-0.6, 0.6)) / 0.10) ** 2)
    )  # a rib's shadow
    frames = []
    for one in echo:
        speckle = np.abs(0.75 * still + 0.66 * _speckle(rng, grid))
        signal = gain * one * attenuation * shade * speckle + rng.uniform(0.004, 0.015)
        level = np.clip((np.log10(signal.clip(1e-4)) + 1.75) / 1.95, 0, 1)
        frames.append(np.where(inside, level * 255, 0))
    return np.repeat(np.stack(frames)[..., None].round().astype(np.uint8), 3, axis=-1)


def _speckle(rng: np.random.Generator, grid: np.ndarray) -> np.ndarray:
    """(H, W) complex circular noise of unit power, as long as the beam is wide: it is made in (r, angle)."""
    noise = rng.normal(size=(2, 84, 60))
    noise = gaussian_filter1d(gaussian_filter1d(noise, 1.0, axis=2), 0.6, axis=1)
    noise /= noise.std() * np.sqrt(2)
    real, imaginary = (map_coordinates(part, grid, order=1, mode="nearest") for part in noise)
    return real + 1j * imaginary


def _doppler(
    frames: np.ndarray,
    view: str,
    x: np.ndarray,
    y: np.ndarray,
    systole: np.ndarray,
    inside: np.ndarray,
    leaks: Sequence[str],
    severity: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Colour over a box: laminar flow in every heart, a mosaic jet back through a leaking valve."""
    spot = rng.uniform([-0.2, 0.4], [0.2, 0.7])  # where no valve is seen, some vessel has flow
    vessel: dict[str, Valve] = {"A": (spot - [0.09, 0], spot + [0.09, 0], (0, rng.choice([-1, 1])))}
    valves = VALVES.get(view, vessel)
    box = (np.abs(x - rng.uniform(-0.08, 0.08)) < 0.46) & (y > rng.uniform(0.16, 0.26)) & (y < 0.98) & inside
    edge = box ^ binary_erosion(box)
    result = frames.copy()
    for index, beat in enumerate(systole):
        picture = frames[index].astype(float)
        blood = box & (frames[index, ..., 0] < 70)
        for name, valve in valves.items():
            along, across, width = _valve_coordinates(valve, x, y)
            strength = 0.35 + (beat if name in SYSTOLIC_VALVES else 1 - beat)
            cloud = strength * np.exp(-((across / (0.42 * width)) ** 2) - ((along - 0.08) / 0.20) ** 2)
            colour = np.array(TOWARDS if valve[2][1] < 0 else AWAY) * rng.uniform(0.85, 1.1)
            flow = colour * (0.45 + 0.5 * cloud[..., None])
            picture = np.where((blood & (cloud > 0.30))[..., None], flow, picture)
        for name in leaks:
            along, across, _ = _valve_coordinates(valves[name], x, y)
            length = JET_LENGTHS[severity] * (0.65 + 0.35 * (1 - beat if name in SYSTOLIC_VALVES else beat))
            jet = (along < 0.03) & (along > -length) & (np.abs(across) < 0.03 - 0.30 * np.minimum(along, 0))
            cells = (
                rng.integers(0, len(MOSAIC_COLOURS), (HEIGHT // 2, WIDTH // 2))
                .repeat(2, axis=0)
                .repeat(2, axis=1)
            )
            picture = np.where((jet & inside)[..., None], np.array(MOSAIC_COLOURS)[cells], picture)
        result[index] = np.where(edge[..., None], 150, picture.clip(0, 255)).astype(np.uint8)
    return result


def _valve_coordinates(valve: Valve, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Distance of each pixel from a valve's middle along its forward flow, and across; the valve's width."""
    hinge, other, forward = (np.asarray(part, dtype=float) for part in valve)
    ahead = forward / np.hypot(*forward)
    dx, dy = x - (hinge + other)[0] / 2, y - (hinge + other)[1] / 2
    return dx * ahead[0] + dy * ahead[1], dx * ahead[1] - dy * ahead[0], float(np.hypot(*(other - hinge)))
