import numpy as np
import torch

from simclr_rhd.inference.ood import DESCRIPTORS, OODDetector, fit_ood_detector


def described(rng, n, shift=0.0, name=None):
    return {
        of: (rng.normal(size=(n, width)) * 3 + 1 + shift * (of == name)).astype(np.float32)
        for of, width in DESCRIPTORS.items()
    }


def of(novelty, numbers):
    return novelty({name: torch.from_numpy(values) for name, values in numbers.items()}).numpy()


def test_frames_of_their_kind_are_near_and_others_far_in_any_description():
    rng = np.random.default_rng(0)
    groups = [str(number // 4) for number in range(800)]
    found = fit_ood_detector(described(rng, 800), groups, seed=0)
    assert (of(found, described(rng, 400)) > 1).mean() < 0.06  # three limits, each kept by 99 %
    for name in DESCRIPTORS:
        assert (of(found, described(rng, 50, 9.0, name)) > 1).all()


def test_limits_are_those_of_groups_that_were_left_out():
    """Each group has a place of its own: a new group is no farther than those are from one another."""
    rng = np.random.default_rng(0)

    def grouped(n):
        return {
            name: (
                np.repeat(rng.normal(size=(n, width)), 5, axis=0) + rng.normal(size=(5 * n, width)) / 20
            ).astype(np.float32)
            for name, width in DESCRIPTORS.items()
        }

    groups = [str(number // 5) for number in range(750)]
    found = fit_ood_detector(grouped(150), groups, seed=0)
    assert (of(found, grouped(40)) > 1).mean() < 0.06


def test_with_too_little_to_tell_there_is_none():
    rng = np.random.default_rng(0)
    assert fit_ood_detector(described(rng, 19), [str(n) for n in range(19)], seed=0) is None
    assert fit_ood_detector(described(rng, 40), ["one"] * 40, seed=0) is None


def test_numbers_that_never_change_do_no_harm():
    rng = np.random.default_rng(0)
    numbers = described(rng, 60)
    numbers["layout"][:, :30] = 0
    found = fit_ood_detector(numbers, [str(n // 3) for n in range(60)], seed=0)
    assert np.isfinite(of(found, numbers)).all()
    numbers["layout"][:, 0] = 1
    assert (of(found, numbers) > 1).all()


def test_it_travels_by_its_buffers():
    found = fit_ood_detector(
        described(np.random.default_rng(0), 60), [str(n // 3) for n in range(60)], seed=0
    )
    other = OODDetector()
    other.load_state_dict(found.state_dict())
    numbers = described(np.random.default_rng(1), 5)
    np.testing.assert_array_equal(of(found, numbers), of(other, numbers))


def test_one_frame_in_all_other_groups_ends_no_run():
    rng = np.random.default_rng(0)
    found = fit_ood_detector(described(rng, 20), ["one"] * 19 + ["other"], seed=0)
    assert np.isfinite(of(found, described(rng, 5))).all()
