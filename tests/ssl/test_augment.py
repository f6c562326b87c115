from dataclasses import fields

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from simclr_rhd.core.config import VIEWS, CommonConfig
from simclr_rhd.data.decoding.image import COLOR, DOPPLER, GREY
from simclr_rhd.ssl.augment import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    VIEW_PARAMS,
    eval_view,
    normalise,
    random_views,
    sample_view_params,
    two_views,
)
from simclr_rhd.ssl.config import NO_WINDOW, PRESETS, AugmentConfig, ViewConfig

DEFAULT = PRESETS["standard"]
OFF = AugmentConfig()


def frames(n=5, side=21, colour=True, seed=0):
    shape = (n, 3 if colour else 1, side, side)
    x = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return x.expand(n, 3, side, side).contiguous()


def kinds(n, kind):
    return torch.full((n,), kind, dtype=torch.uint8)


def numbers(n=5, epoch=1, **fixed):
    """Random numbers with some factors set to a value."""
    u, _ = sample_view_params(0, epoch, np.arange(n))
    for name, value in fixed.items():
        u[..., VIEW_PARAMS.index(name)] = value
    return u


def pixels(views):
    """Undo the normalisation."""
    return views * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) + torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)


@pytest.mark.parametrize(("kind", "colour"), [(GREY, False), (COLOR, True), (DOPPLER, True)])
def test_shape_dtype_range_and_an_untouched_input(kind, colour):
    x = frames(colour=colour)
    before = x.clone()
    views = two_views(x, kinds(5, kind), numbers(), size=17, augment_config=DEFAULT)
    assert views.shape == (10, 3, 17, 17) and views.dtype == torch.float32
    assert views.is_contiguous(memory_format=torch.channels_last)
    assert pixels(views).min() > -1e-5 and pixels(views).max() < 1 + 1e-5
    assert torch.equal(x, before)


def test_views_differ_from_each_other_and_between_samples_of_the_same_frame():
    x = frames(1).expand(5, -1, -1, -1)
    views = two_views(x, kinds(5, COLOR), numbers(), size=16, augment_config=DEFAULT)
    for i in range(10):
        for j in range(i):
            assert (views[i] - views[j]).abs().max() > 0.05


def test_one_view_of_each_frame_is_one_of_the_two():
    x, kind, u = frames(), kinds(5, COLOR), numbers()
    both = two_views(x, kind, u, size=16, augment_config=DEFAULT).split(5)
    for number, wanted in enumerate(both):
        one = random_views(x, kind, u[:, number], size=16, augment_config=DEFAULT)
        torch.testing.assert_close(one, wanted)


def test_same_numbers_same_views_other_epoch_other_views():
    x, kind = frames(), kinds(5, GREY)
    one = two_views(x, kind, numbers(), size=16, augment_config=DEFAULT)
    assert torch.equal(one, two_views(x, kind, numbers(), size=16, augment_config=DEFAULT))
    assert not torch.equal(one, two_views(x, kind, numbers(epoch=2), size=16, augment_config=DEFAULT))


def test_draws_depend_on_seed_epoch_and_frame_only():
    rows = np.array([3, 11, 4])
    together, partners = sample_view_params(7, 2, rows)
    assert together.shape == (3, 2, len(VIEW_PARAMS)) and together.min() >= 0 and together.max() < 1
    assert partners.shape == (3,) and partners.min() >= 0 and partners.max() < 1
    for position, row in enumerate(rows):
        alone, partner = sample_view_params(7, 2, np.array([row]))
        assert torch.equal(alone[0], together[position]) and partner[0] == partners[position]
    for other in (sample_view_params(8, 2, rows), sample_view_params(7, 3, rows)):
        assert not torch.equal(other[0], together) and (other[1] != partners).all()


@pytest.mark.parametrize("size", [16, 64])
def test_a_frames_views_do_not_depend_on_its_batch_to_the_last_bit(size):
    x = frames(9, side=size + 11)
    kind, u = torch.tensor([GREY, COLOR, DOPPLER] * 3, dtype=torch.uint8), numbers(9)
    x[kind == GREY] = x[kind == GREY][:, :1].expand(-1, 3, -1, -1)
    together = two_views(x, kind, u, size=size, augment_config=DEFAULT)
    for row in range(9):
        one = slice(row, row + 1)
        alone = two_views(x[one], kind[one], u[one], size=size, augment_config=DEFAULT)
        assert torch.equal(alone[0], together[row]) and torch.equal(alone[1], together[9 + row])


def test_the_grey_path_skips_the_colour_operations_exactly():
    x = frames(colour=False)
    one = two_views(x, kinds(5, GREY), numbers(), size=16, augment_config=DEFAULT)
    mixed = torch.cat([x, frames(1)]), torch.cat([kinds(5, GREY), kinds(1, COLOR)])
    other = two_views(*mixed, numbers(6), size=16, augment_config=DEFAULT)
    assert torch.equal(one, torch.cat([other[:5], other[6:11]]))


def test_second_views_may_come_from_partners():
    x, partners, kind = frames(5), frames(5, seed=1), kinds(5, COLOR)
    of_partners = two_views(
        torch.cat([x, partners]), torch.cat([kind, kind]), numbers(), size=16, augment_config=DEFAULT
    )
    assert torch.equal(of_partners[:5], two_views(x, kind, numbers(), size=16, augment_config=DEFAULT)[:5])
    assert torch.equal(
        of_partners[5:], two_views(partners, kind, numbers(), size=16, augment_config=DEFAULT)[5:]
    )


@pytest.mark.parametrize("size", [28, 31, 40])
@pytest.mark.parametrize(("place", "corner"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_a_crop_equals_torchvisions(size, place, corner):
    """A box of 28 x 28 pixels in a frame of 32 x 32; at its own border ours sees what lies beyond."""
    x, u = frames(5, side=32), numbers(aspect=0.5, x=place, y=place, area=0.0)
    views = two_views(
        x, kinds(5, COLOR), u, size=size, augment_config=AugmentConfig((28 / 32) ** 2, 0, 0, 0, 0)
    )
    wanted = tv.resized_crop(x.float() / 255, corner, corner, 28, 28, [size, size], antialias=False)
    inside = slice(1, -1) if size != 28 else slice(None)
    torch.testing.assert_close(
        pixels(views[:5])[..., inside, inside], wanted[..., inside, inside], atol=1e-4, rtol=0
    )


def test_small_views_of_frames_kept_for_larger_ones_are_smoothed_first():
    """Without that every second line of a fine pattern would be taken, and not their mean."""
    frame = torch.zeros(1, 1, 74, 74, dtype=torch.uint8)
    frame[..., ::2] = 200
    views = two_views(frame, kinds(1, GREY), numbers(1, aspect=0.5), size=16, augment_config=OFF)
    assert (255 * pixels(views)[..., 2:-2] - 100).abs().max() < 3


def test_with_everything_off_only_the_size_changes():
    x = frames(side=24)
    views = two_views(x, kinds(5, COLOR), numbers(aspect=0.5), size=24, augment_config=OFF)
    torch.testing.assert_close(pixels(views[:5]), x.float() / 255, atol=1e-4, rtol=0)


@pytest.mark.parametrize("place", [0.0, 0.25, 1.0])
def test_a_rotation_equals_torchvisions_and_what_it_shows_beyond_the_frame_is_black(place):
    x = frames(side=24)
    turned = AugmentConfig(rotation=40.0)
    views = two_views(x, kinds(5, COLOR), numbers(aspect=0.5, angle=place), size=24, augment_config=turned)
    degrees = 40 * (2 * place - 1)
    expected = tv.rotate(x.float() / 255, degrees, interpolation=tv.InterpolationMode.BILINEAR)
    torch.testing.assert_close(pixels(views[:5]), expected, atol=1e-4, rtol=0)
    assert expected[..., 0, 0].max() == 0


def test_a_turned_box_keeps_its_shape_in_pixels():
    """A disk stays round when its frame is cropped and turned, as wide as the crop makes it."""
    place = torch.arange(48) - 23.5
    disk = ((place[:, None] ** 2 + place**2 < 15**2) * 200).to(torch.uint8).expand(1, 1, 48, 48)
    u = numbers(1, aspect=0.5, area=0.0, x=0.5, y=0.5, angle=0.9)
    strengths = AugmentConfig(crop_min=0.64, rotation=30.0)
    views = pixels(two_views(disk, kinds(1, GREY), u, size=48, augment_config=strengths))
    lit = views[0, 0] > 100 / 255
    assert abs(int(lit.any(dim=0).sum()) - 30 / 0.8) <= 1 and abs(int(lit.any(dim=1).sum()) - 30 / 0.8) <= 1


@pytest.mark.parametrize(("width", "height"), [(0.0, 0.2), (0.4, 0.1)])
def test_a_small_window_is_an_ellipse_within_the_view_and_all_outside_is_black(width, height):
    size, n = 60, 100
    white = torch.full((n, 1, 68, 68), 200, dtype=torch.uint8)
    u = numbers(n, window_width=width, window_height=height)
    views = two_views(white, kinds(n, GREY), u, size=size, augment_config=AugmentConfig(window_min=0.4))
    levels = pixels(views)[:, 0]
    lit = levels > 0.5
    for found, share in ((lit.any(dim=1), width), (lit.any(dim=2), height)):
        assert (found.sum(dim=1) - (0.4 + (NO_WINDOW - 0.4) * share) * size).abs().max() <= 2
        assert found.int().argmax(dim=1).unique().numel() > 5  # it is not always in one place
    area = lit.sum(dim=(1, 2)) / (lit.any(dim=1).sum(dim=1) * lit.any(dim=2).sum(dim=1))
    assert (area - torch.pi / 4).abs().max() < 0.04  # of an ellipse that is not cut off
    torch.testing.assert_close(levels[lit], torch.tensor(200 / 255).expand(int(lit.sum())))
    assert levels[~lit].abs().max() < 1e-6


def test_the_largest_window_hides_nothing():
    white = torch.full((5, 1, 37, 37), 200, dtype=torch.uint8)
    u = numbers(window_width=0.9999, window_height=0.9999)
    views = two_views(white, kinds(5, GREY), u, size=32, augment_config=AugmentConfig(window_min=0.4))
    assert pixels(views).min() > 0.78


def test_the_windows_of_two_views_differ():
    white = torch.full((50, 1, 37, 37), 200, dtype=torch.uint8)
    views = two_views(
        white, kinds(50, GREY), numbers(50), size=32, augment_config=AugmentConfig(window_min=0.4)
    )
    first, second = (pixels(views)[:, 0] > 0.5).split(50)
    assert (first != second).flatten(1).any(dim=1).all()


def test_a_flip_mirrors():
    x = frames(side=24)
    flipped = AugmentConfig(1.0, 1.0, 0.0, 0.0, 0.0)
    views = two_views(x, kinds(5, COLOR), numbers(aspect=0.5), size=24, augment_config=flipped)
    torch.testing.assert_close(pixels(views[:5]), x.flip(-1).float() / 255, atol=1e-4, rtol=0)


def test_a_black_frame_survives():
    views = two_views(
        torch.zeros(3, 3, 20, 20, dtype=torch.uint8),
        kinds(3, COLOR),
        numbers(3),
        size=16,
        augment_config=DEFAULT,
    )
    torch.testing.assert_close(pixels(views), torch.zeros_like(views), atol=1e-6, rtol=0)


def test_no_brightness_turns_the_colour_of_flow_into_another():
    """Clipped channel by channel, bright red would come out yellow: a faster flow."""
    hues = torch.tensor([(255, 160, 0), (200, 50, 20), (25, 70, 210), (250, 220, 60)], dtype=torch.uint8)
    x = hues.view(4, 3, 1, 1).expand(4, 3, 20, 20).clone()
    x[:, :, :10] = x[:, :, :10] // 3  # something to have a contrast with
    for brightness in (0.0, 0.5, 0.999):
        for contrast in (0.0, 0.5, 0.999):
            u = numbers(4, jitter=0.0, brightness=brightness, contrast=contrast)
            views = two_views(
                x, kinds(4, DOPPLER), u, size=16, augment_config=AugmentConfig(1.0, 0.0, 0.4, 1.0, 0.0)
            )
            found = pixels(views[:4])[:, :, -1, 0]
            assert found.max() <= 1 + 1e-5
            for view, wanted in zip(found, hues.float() / 255, strict=True):
                torch.testing.assert_close(view / view.max(), wanted / wanted.max(), atol=0.02, rtol=0)


@pytest.mark.parametrize("least", [0.5, 0.9, 1.0])
def test_a_crop_keeps_at_least_its_share_of_the_area(least):
    ramp = torch.arange(100, dtype=torch.uint8).view(1, 1, 1, 100).expand(200, 1, 100, 100)
    frames = torch.cat([ramp, ramp.transpose(2, 3), ramp], 1).contiguous()
    u = numbers(200)
    views = pixels(
        two_views(
            frames, kinds(200, COLOR), u, size=32, augment_config=AugmentConfig(least, 0.0, 0.0, 0.0, 0.0)
        )
    )
    width = (views[:, 0, 16, -1] - views[:, 0, 16, 0]) * 255 / 99 * 32 / 31
    height = (views[:, 1, -1, 16] - views[:, 1, 0, 16]) * 255 / 99 * 32 / 31
    assert (width * height).min() > least - 0.04


def test_a_crop_keeps_at_least_its_share_and_stays_inside():
    ramp = torch.arange(200, dtype=torch.uint8).view(1, 1, 1, 200).expand(400, 3, 200, 200).contiguous()
    views = (
        pixels(
            two_views(
                ramp,
                kinds(400, GREY),
                numbers(400),
                size=32,
                augment_config=AugmentConfig(0.5, 0.0, 0.0, 0.0, 0.0),
            )
        )
        * 255
    )
    width = (views[:, 0, 0, -1] - views[:, 0, 0, 0]) / 199 * 32 / 31
    assert width.min() > (0.5 * 3 / 4) ** 0.5 - 0.02 and width.max() < 1.02
    assert views.min() > -1e-3 and views.max() < 199.001


def test_brightness_and_contrast_equal_torchvision():
    x = frames(side=16)
    u = numbers(aspect=0.5, jitter=0.0, brightness=0.9, contrast=0.1)
    u[..., VIEW_PARAMS.index("saturation")] = 0.5  # which changes nothing
    views = two_views(x, kinds(5, COLOR), u, size=16, augment_config=AugmentConfig(1.0, 0.0, 0.4, 0.0, 0.0))
    bright = tv.adjust_brightness(x.float() / 255, 1 + 0.4 * 0.8)
    for view, frame in zip(pixels(views[:5]), bright, strict=True):
        torch.testing.assert_close(view, tv.adjust_contrast(frame, 1 - 0.4 * 0.8), atol=2e-3, rtol=0)


def test_saturation_and_grayscale_equal_torchvision():
    x = frames(side=16)
    strengths = AugmentConfig(1.0, 0.0, 0.4, 1.0, 0.0)
    grey = two_views(x, kinds(5, COLOR), numbers(aspect=0.5, jitter=0.99), size=16, augment_config=strengths)
    torch.testing.assert_close(pixels(grey[:5]), tv.rgb_to_grayscale(x.float() / 255, 3), atol=1e-3, rtol=0)
    u = numbers(aspect=0.5, jitter=0.0, brightness=0.5, contrast=0.5, saturation=0.2)
    views = two_views(x, kinds(5, COLOR), u, size=16, augment_config=AugmentConfig(1.0, 0.0, 0.4, 0.0, 0.0))
    torch.testing.assert_close(
        pixels(views[:5]), tv.adjust_saturation(x.float() / 255, 1 - 0.4 * 0.6), atol=1e-3, rtol=0
    )


def test_blur_equals_torchvisions_gaussian():
    x, size = frames(side=40), 40
    u = numbers(aspect=0.5, blur=0.0, sigma=0.7)
    views = two_views(x, kinds(5, COLOR), u, size=size, augment_config=AugmentConfig(1.0, 0.0, 0.0, 0.0, 1.0))
    low, high = 0.1 * size / 224, 2.0 * size / 224
    expected = tv.gaussian_blur(x.float() / 255, [5, 5], [low + (high - low) * 0.7] * 2)
    torch.testing.assert_close(pixels(views[:5]), expected, atol=1e-3, rtol=0)


def test_doppler_frames_keep_their_hue_and_colour():
    x = frames(side=16)
    strong = AugmentConfig(1.0, 0.0, 0.4, 1.0, 0.0)
    u = numbers(aspect=0.5, jitter=0.0, brightness=0.5, contrast=0.5, saturation=0.0)
    views = two_views(x, kinds(5, DOPPLER), u, size=16, augment_config=strong)
    torch.testing.assert_close(pixels(views[:5]), x.float() / 255, atol=1e-3, rtol=0)


def test_the_plain_view_is_the_whole_frame():
    x = frames(side=24)
    torch.testing.assert_close(pixels(eval_view(x, size=24)), x.float() / 255, atol=1e-5, rtol=0)
    assert eval_view(x, size=15).shape == (5, 3, 15, 15)


def test_normalise_repeats_grey_and_leaves_the_input():
    x = torch.rand(2, 1, 4, 4)
    before = x.clone()
    assert normalise(x).shape == (2, 3, 4, 4) and torch.equal(x, before)


def test_every_flag_of_the_views_says_that_it_changes_them():
    """By this `compare` knows that curves of runs with other values are not on one scale."""
    flags = {field.name: field.metadata["changes"] for field in fields(ViewConfig)}
    own = flags.keys() - {field.name for field in fields(CommonConfig)}
    assert own > {field.name for field in fields(AugmentConfig)}
    assert {name for name in own if flags[name] != VIEWS} == set()
