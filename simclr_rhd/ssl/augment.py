"""The views: batched on the device, each sample with its own random numbers.

All randomness is drawn by `sample_view_params`, from (seed, epoch, frame) alone, and only used by `two_views`
and `random_views`: a frame's views do not depend on the batch it is in, nor on who computes them.

Notation: B frames, C channels (1 when every frame is grey, else 3), S pixels of a stored frame's side,
V = 2B views, s pixels of a view's side.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.data.decoding.image import COLOR, DOPPLER, GREY, storage_size
from simclr_rhd.ssl.config import NO_WINDOW, AugmentConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, so that its weights can be a start
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601
ASPECT_RATIOS = (3 / 4, 4 / 3)  # of a random crop, as in torchvision's RandomResizedCrop
JITTER_PROBABILITY = 0.8  # of the views, as in SimCLR
BLUR_SIGMA = (0.1, 2.0)  # pixels in a view of 224 pixels
CROP_PARAMS = ("area", "aspect", "x", "y", "flip", "angle")
COLOR_PARAMS = ("jitter", "brightness", "contrast", "saturation", "grayscale", "blur", "sigma")
WINDOW_PARAMS = ("window_width", "window_height", "window_x", "window_y")
VIEW_PARAMS = CROP_PARAMS + COLOR_PARAMS + WINDOW_PARAMS


def sample_view_params(
    seed: int, epoch: int, frames: np.ndarray, stream: Stream = Stream.VIEWS
) -> tuple[Tensor, np.ndarray]:
    """Random numbers for each frame's two views, and for the choice of its partner; uniform in [0, 1).

    Returns:
        (B, 2, len(VIEW_PARAMS)) float32 and (B,) float32.
    """
    views, partners = [], []
    for frame in frames:
        rng = make_rng(seed, stream, epoch, int(frame))
        views.append(rng.random((2, len(VIEW_PARAMS)), dtype=np.float32))
        partners.append(rng.random(dtype=np.float32))
    return torch.from_numpy(np.stack(views)), np.array(partners)


def two_views(
    frames: Tensor, color_modes: Tensor, view_params: Tensor, *, size: int, augment_config: AugmentConfig
) -> Tensor:
    """A random view of each frame, and one of the same frame or of its partner.

    Crop, rotation, flip, brightness, contrast, saturation, grayscale, blur, window, then ImageNet
    normalisation. Saturation and grayscale leave Doppler frames alone, where colour is the direction of flow;
    there is no hue jitter.

    Args:
        frames: (B, C, S, S) uint8, not changed; C is 3, or 1 where all are grey. Or (2B, C, S, S): the
            frames, then the partners that their second views are made of.
        color_modes: (B,) or (2B,) uint8, GREY, COLOR or DOPPLER.
        view_params: (B, 2, len(VIEW_PARAMS)) from `sample_view_params`.
        size: s.
        augment_config: how strong.

    Returns:
        (2B, 3, s, s) float32, channels last, normalised; the first views, then the second ones.
    """
    x = _to_unit_range(frames, color_modes, size)
    if len(frames) == len(view_params):
        x, color_modes = torch.cat([x, x]), torch.cat([color_modes, color_modes])
    return _apply_augmentations(
        x, color_modes, view_params.transpose(0, 1).flatten(0, 1), size=size, augment_config=augment_config
    )


def random_views(
    frames: Tensor, color_modes: Tensor, view_params: Tensor, *, size: int, augment_config: AugmentConfig
) -> Tensor:
    """One random view of each frame: as `two_views`, of B frames and (B, len(VIEW_PARAMS)) numbers."""
    x = _to_unit_range(frames, color_modes, size)
    return _apply_augmentations(x, color_modes, view_params, size=size, augment_config=augment_config)


def _to_unit_range(frames: Tensor, color_modes: Tensor, size: int) -> Tensor:
    """(B, C, S, S) uint8 -> the same in [0, 1], with one channel where all frames are grey.

    Frames that are kept for larger views are made smaller first, and so smoothed.
    """
    x = (frames[:, :1] if (color_modes == GREY).all() else frames).float().div(255)
    if (side := storage_size(size)) < x.shape[-1]:
        x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
    return x


def _apply_augmentations(
    x: Tensor, color_modes: Tensor, view_params: Tensor, *, size: int, augment_config: AugmentConfig
) -> Tensor:
    """The views of (V, C, S, S) frames in [0, 1] by (V, len(VIEW_PARAMS)) numbers."""
    params = dict(zip(VIEW_PARAMS, view_params.unbind(1), strict=True))  # each (V,)
    x = _crop(x, params, size, augment_config)  # (V, C, s, s)
    x = _brightness_contrast(x, color_modes, params, augment_config.jitter)
    if x.shape[1] > 1:
        x = _chroma(x, color_modes, params, augment_config)
    x = _blur(x, params, augment_config.blur)
    return normalise(_window(x, params, augment_config.window_min))


def eval_view(frames: Tensor, *, size: int) -> Tensor:
    """The view for evaluation: the whole frame, (B, C, S, S) uint8 -> (B, 3, s, s) float32, normalised."""
    x = frames.float().div(255)
    return normalise(F.interpolate(x, size=(size, size), mode="bilinear", antialias=True))


def imagenet_statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """ImageNet's mean and deviation of each channel, both (1, 3, 1, 1)."""
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std


def normalise(x: Tensor) -> Tensor:
    """(B, 1 or 3, s, s) in [0, 1] -> (B, 3, s, s), channels last, with ImageNet's mean and deviation."""
    mean, std = imagenet_statistics(x.device)
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


def to_uint8(views: Tensor) -> np.ndarray:
    """Undo `normalise`, for pictures: (B, 3, s, s) -> (B, s, s, 3) uint8."""
    mean, std = imagenet_statistics(views.device)
    x = (views * std + mean).mul(255).round().clamp(0, 255)
    return x.permute(0, 2, 3, 1).to("cpu", torch.uint8).numpy()


def _crop(x: Tensor, params: dict[str, Tensor], size: int, augment_config: AugmentConfig) -> Tensor:
    """Random resized crop, rotation and flip in one bilinear sampling.

    A box that is not turned is inside the frame; beyond it a turned one is black, as outside a sector.
    Without antialiasing: a frame's side, and so a box's, is at most 8/7 of a view's.
    """
    area = augment_config.crop_min + (1 - augment_config.crop_min) * params["area"]
    low, high = math.log(ASPECT_RATIOS[0]), math.log(ASPECT_RATIOS[1])
    aspect = torch.exp(low + (high - low) * params["aspect"])
    aspect = aspect.clamp(area, 1 / area)  # beyond, a side would stick out
    side = torch.stack([area * aspect, area / aspect], 1).sqrt().clamp(max=1)  # (V, 2) shares of the frame's
    centre = (1 - side) * (2 * torch.stack([params["x"], params["y"]], 1) - 1)  # in [-1, 1] coordinates
    mirror = torch.where(params["flip"] < augment_config.flip, -1.0, 1.0)
    angle = math.radians(augment_config.rotation) * (2 * params["angle"] - 1)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([mirror * cos, -sin, mirror * sin, cos], 1).unflatten(1, (2, 2))
    theta = torch.cat([turn * side[:, None], centre[:, :, None]], 2)  # (V, 2, 3)
    grid = F.affine_grid(theta, [len(x), x.shape[1], size, size], align_corners=False)
    outside = "zeros" if augment_config.rotation > 0 else "border"
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=outside, align_corners=False)


def _brightness_contrast(x: Tensor, color_modes: Tensor, params: dict[str, Tensor], jitter: float) -> Tensor:
    """Brightness, then contrast about the view's mean brightness, as torchvision's ColorJitter does each.

    In Doppler frames each pixel is scaled as its brightness is, at most until a channel is full: clipping
    channels one by one would turn red flow into yellow, which is faster flow.
    """
    on = params["jitter"] < JITTER_PROBABILITY
    brightness, contrast = (
        torch.where(on, 1 + jitter * (2 * params[name] - 1), 1.0).view(-1, 1, 1, 1)
        for name in ("brightness", "contrast")
    )
    y = (x * brightness).clamp_(0, 1)
    mean = _luma(y.mean(dim=(2, 3), keepdim=True), color_modes)
    y = torch.lerp(mean, y, contrast).clamp_(0, 1)
    doppler = (color_modes == DOPPLER).nonzero().squeeze(1)
    if len(doppler) == 0:
        return y
    before = _luma(x[doppler], color_modes[doppler])
    bright = (before * brightness[doppler]).clamp(0, 1)
    mean = bright.mean(dim=(1, 2, 3), keepdim=True)
    wanted = (mean + contrast[doppler] * (bright - mean)).clamp(0, 1)
    gain = wanted / before.clamp(min=1e-6)
    room = 1 / x[doppler].amax(dim=1, keepdim=True).clamp(min=1e-6)
    return y.index_copy(0, doppler, x[doppler] * torch.minimum(gain, room))


def _chroma(
    x: Tensor, color_modes: Tensor, params: dict[str, Tensor], augment_config: AugmentConfig
) -> Tensor:
    """Saturation and grayscale: both scale a pixel's distance from its brightness, grayscale to 0.

    Grey frames pass as they are, to the last bit, so that a frame's views do not depend on its batch.
    """
    on = params["jitter"] < JITTER_PROBABILITY
    scale = torch.where(on, 1 + augment_config.jitter * (2 * params["saturation"] - 1), 1.0)
    scale = torch.where(params["grayscale"] < augment_config.grayscale, 0.0, scale)
    scale = torch.where(color_modes == COLOR, scale, 1.0).view(-1, 1, 1, 1)
    changed = (scale != 1).view(-1).nonzero().squeeze(1)
    before = x[changed]
    after = torch.lerp(_luma(before, color_modes[changed]), before, scale[changed]).clamp_(0, 1)
    return x.index_copy_(0, changed, after)


def _blur(x: Tensor, params: dict[str, Tensor], probability: float) -> Tensor:
    """Gaussian blur of a share of the views, as two passes of a one-dimensional kernel per view."""
    chosen = (params["blur"] < probability).nonzero().squeeze(1)
    if len(chosen) == 0:
        return x
    low, high = (sigma * x.shape[-1] / 224 for sigma in BLUR_SIGMA)
    sigma = low + (high - low) * params["sigma"][chosen]
    radius = max(1, math.ceil(3 * high))
    steps = torch.arange(-radius, radius + 1, device=x.device)
    kernel = torch.exp(-0.5 * (steps / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(x.shape[1], 0)  # (n C, k)
    n, c, h, w = x[chosen].shape
    y = F.pad(x[chosen], [radius] * 4, mode="reflect").reshape(1, n * c, h + 2 * radius, w + 2 * radius)
    if n * c == 1:  # a lone channel is convolved by another routine, which rounds otherwise
        y, kernel = y.repeat(1, 2, 1, 1), kernel.repeat(2, 1)
    y = F.conv2d(y, kernel[:, None, :, None], groups=len(kernel))
    y = F.conv2d(y, kernel[:, None, None, :], groups=len(kernel))
    return x.index_copy(0, chosen, y[:, : n * c].reshape(n, c, h, w))


def _window(x: Tensor, params: dict[str, Tensor], window_min: float) -> Tensor:
    """Black outside a random ellipse, which lies within the view if it is not larger.

    A clip is known by the outline of its sector and by the place of the probe. Without them, and with a part
    of the heart alone, its small structures have to tell it.
    """
    if window_min == NO_WINDOW:
        return x
    width, height, x_place, y_place = (params[name] for name in WINDOW_PARAMS)
    half = window_min + (NO_WINDOW - window_min) * torch.stack([width, height], 1)  # in [-1, 1] coordinates
    centre = (1 - half).clamp(min=0) * (2 * torch.stack([x_place, y_place], 1) - 1)  # (V, 2)
    pixels = (2 * torch.arange(x.shape[-1], device=x.device) + 1) / x.shape[-1] - 1
    distance = ((pixels - centre[..., None]) / half[..., None]) ** 2  # (V, 2, s), along x and along y
    return x * (distance[:, 0, None, None, :] + distance[:, 1, None, :, None] < 1)


def _luma(x: Tensor, color_modes: Tensor) -> Tensor:
    """(V, C, s, s) -> (V, 1, s, s); of grey frames exactly their one value."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x.split(1, dim=1)
    luma = (red * LUMA_WEIGHTS[0]).add_(green, alpha=LUMA_WEIGHTS[1]).add_(blue, alpha=LUMA_WEIGHTS[2])
    return torch.where((color_modes == GREY).view(-1, 1, 1, 1), red, luma)
