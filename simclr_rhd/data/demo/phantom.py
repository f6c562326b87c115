"""Synthetic echo clips: what a scanner would show of simple, moving anatomy.

Echogenicity (chambers, walls, valves that open and close over the cardiac cycle), times speckle that is made
in the probe's polar coordinates, log-compressed and cut to a sector; colour Doppler is laid over a box. Only
the content that is given shows in a clip: gain, depth, position, rotation, sector angle and colour box
come from other random numbers.

Notation: F frames of a clip, H x W pixels. Anatomy coordinates: x to the right, y away from the probe, the
heart some 1 long.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter1d, map_coordinates

from simclr_rhd.data.demo.anatomy import (
    SYSTOLIC_VALVES,
    VALVES,
    ClipContent,
    PixelGrid,
    Valve,
    heart_echo,
    tissue_echo,
    valve_coordinates,
)

HEIGHT, WIDTH = 96, 128
JET_LENGTHS = (0.17, 0.28, 0.46)  # length of a regurgitant jet, by severity: 2 cm (WHF 2012) and more
JET_WIDTHS = (0.022, 0.036, 0.056)  # of a jet at its valve, half of the vena contracta, by severity
JET_SPREAD = 0.30  # by which half of a jet's width grows, for its length
AT_VALVE = 0.06  # distance from a valve's plane within which a jet is seen across leaflets
VALVE_RADIUS = 0.1  # around a valve's middle: nine tenths of this disc are in the sector
BLOOD_ECHO = 0.12  # echogenicity below which there is blood
MAX_PLACEMENTS = 50  # of the probe, until all valves are in the sector
TOWARDS, AWAY = (200, 50, 20), (25, 70, 210)  # the colours of flow to the probe and away from it
MOSAIC_COLOURS = (
    (250, 220, 60),
    (60, 230, 220),
    (240, 240, 200),
    (250, 140, 30),
    (70, 200, 90),
)  # of a fast jet


@dataclass(frozen=True)
class ScanSettings:
    """The scan settings of a patient, for all clips.

    Attributes:
        gain: of the echo.
        scale: of the heart.
        aspect: of the heart, its width by its height.
        sector: of the probe, by which the sector's angle is multiplied.
    """

    gain: float
    scale: float
    aspect: float
    sector: float = 1.0


def draw_clip(
    content: ClipContent, scan: ScanSettings, *, n_frames: int, rng: np.random.Generator
) -> np.ndarray:
    """One clip, (F, H, W, 3) uint8, whose F frames are spread over about a cardiac cycle."""
    phase = (rng.random() + np.arange(n_frames) * rng.uniform(0.85, 1.2) / n_frames) % 1
    systole = (0.5 - 0.5 * np.cos(2 * np.pi * phase)).astype(np.float32)  # (F,) 0 filled, 1 contracted
    grid = _place_probe(content, scan, rng)
    if content.view in VALVES:
        echo = heart_echo(content, grid, systole, rng)
    else:
        echo = tissue_echo(grid, n_frames, rng)
    frames = _scan(echo, grid, scan.gain * 2.0 ** rng.uniform(-1, 1), rng)
    return _doppler(frames, echo, content, grid, systole, rng) if content.colour else frames


def _place_probe(content: ClipContent, scan: ScanSettings, rng: np.random.Generator) -> PixelGrid:
    """A placement of the probe that has the view's valves in the sector, as an examiner would choose it."""
    for _ in range(MAX_PLACEMENTS):
        grid = _draw_placement(scan, rng)
        if all(_in_sector(grid, valve) for valve in VALVES.get(content.view, {}).values()):
            break
    return grid


def _in_sector(grid: PixelGrid, valve: Valve) -> bool:
    """Return true where the surroundings of a valve are within the sector."""
    along, across, _ = valve_coordinates(valve, grid.x, grid.y)
    around = grid.inside[np.hypot(along, across) < VALVE_RADIUS]
    return bool(around.size and around.mean() > 0.9)


def _draw_placement(scan: ScanSettings, rng: np.random.Generator) -> PixelGrid:
    """The sector, and the heart in it: the probe is shifted, turned, or mirrored, and set to some depth."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    top, centre = rng.uniform(1, 6), WIDTH / 2 + rng.uniform(-7, 7)
    reach = HEIGHT - rng.uniform(8, 14)
    down, across = (rows - top + 3) / reach, (columns - centre) / reach
    r, angle = np.hypot(down, across), np.arctan2(across, down)
    inside = (np.abs(angle) < np.radians(rng.uniform(36, 44) * scan.sector)) & (r > 0.06) & (r < 1)
    turn, zoom = math.radians(rng.uniform(-62, 62)), rng.uniform(0.85, 1.25) / scan.scale
    across, down = (
        r * np.sin(angle) + rng.uniform(-0.17, 0.17),
        r * np.cos(angle) - 0.5 + rng.uniform(-0.13, 0.13),
    )
    side = 1 if rng.random() < 0.5 else -1
    x = (across * math.cos(turn) - down * math.sin(turn)) * zoom * scan.aspect * side
    y = (across * math.sin(turn) + down * math.cos(turn)) * zoom / scan.aspect + 0.52
    return PixelGrid(r, angle, inside, x, y)


def _scan(echo: np.ndarray, grid: PixelGrid, gain: float, rng: np.random.Generator) -> np.ndarray:
    """(F, H, W) echogenicity -> (F, H, W, 3) uint8 grey: speckle, attenuation, gain, log compression."""
    r, angle = grid.r, grid.angle
    beam = np.stack([r * 80, (angle / np.radians(45) + 1) * 27 + 2])
    still = _speckle(rng, beam)
    attenuation = np.exp(-rng.uniform(0.3, 1.2) * r) * (1 - 0.35 * (np.abs(angle) / np.radians(45)) ** 2)
    shade = 1 - rng.uniform(0, 0.7) * np.exp(
        -(((angle - rng.uniform(-0.6, 0.6)) / 0.10) ** 2)
    )  # a rib's shadow
    frames = []
    for one in echo:
        speckle = np.abs(0.75 * still + 0.66 * _speckle(rng, beam))
        signal = gain * one * attenuation * shade * speckle + rng.uniform(0.004, 0.015)
        level = np.clip((np.log10(signal.clip(1e-4)) + 1.75) / 1.95, 0, 1)
        frames.append(np.where(grid.inside, level * 255, 0))
    return np.repeat(np.stack(frames)[..., None].round().astype(np.uint8), 3, axis=-1)


def _speckle(rng: np.random.Generator, beam: np.ndarray) -> np.ndarray:
    """(H, W) complex circular noise of unit power, as long as the beam is wide: it is made in (r, angle)."""
    noise = rng.standard_normal((2, 84, 60), dtype=np.float32)
    noise = gaussian_filter1d(gaussian_filter1d(noise, 1.0, axis=2), 0.6, axis=1)
    noise /= noise.std() * np.sqrt(2)
    real, imaginary = (map_coordinates(part, beam, order=1, mode="nearest") for part in noise)
    field: np.ndarray = real + 1j * imaginary
    return field


def _doppler(
    frames: np.ndarray,
    echo: np.ndarray,
    content: ClipContent,
    grid: PixelGrid,
    systole: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Colour within a box: laminar flow in every heart, a mosaic jet back through a leaking valve."""
    x, y = grid.x, grid.y
    spot = rng.uniform([-0.2, 0.4], [0.2, 0.7])  # where no valve is seen, some vessel has flow
    vessel: dict[str, Valve] = {"A": (spot - [0.09, 0], spot + [0.09, 0], (0, rng.choice([-1, 1])))}
    valves = VALVES.get(content.view, vessel)
    box = (np.abs(x - rng.uniform(-0.08, 0.08)) < 0.46) & (y > rng.uniform(0.06, 0.16)) & (y < 0.98)
    box &= grid.inside
    edge = box ^ binary_erosion(box)
    result = frames.copy()
    for index, beat in enumerate(systole):
        picture = frames[index].astype(float)
        blood = box & ((echo[index] < BLOOD_ECHO) | (content.view not in VALVES))
        for name, valve in valves.items():
            along, across, width = valve_coordinates(valve, x, y)
            strength = 0.35 + (beat if name in SYSTOLIC_VALVES else 1 - beat)
            cloud = strength * np.exp(-((across / (0.42 * width)) ** 2) - ((along - 0.08) / 0.20) ** 2)
            colour = np.array(TOWARDS if valve[2][1] < 0 else AWAY) * rng.uniform(0.85, 1.1)
            flow = colour * (0.45 + 0.5 * cloud[..., None])
            picture = np.where((blood & (cloud > 0.30))[..., None], flow, picture)
        for name in content.leaks:
            along, across, _ = valve_coordinates(valves[name], x, y)
            length = JET_LENGTHS[content.severity] * (
                0.65 + 0.35 * (1 - beat if name in SYSTOLIC_VALVES else beat)
            )
            width = JET_WIDTHS[content.severity] - JET_SPREAD * np.minimum(along, 0)
            jet = (along < 0.03) & (along > -length) & (np.abs(across) < width)
            jet &= box & ((echo[index] < BLOOD_ECHO) | (np.abs(along) < AT_VALVE))
            cells = (
                rng.integers(0, len(MOSAIC_COLOURS), (HEIGHT // 2, WIDTH // 2))
                .repeat(2, axis=0)
                .repeat(2, axis=1)
            )
            picture = np.where(jet[..., None], np.array(MOSAIC_COLOURS)[cells], picture)
        result[index] = np.where(edge[..., None], 150, picture.clip(0, 255)).astype(np.uint8)
    return result
