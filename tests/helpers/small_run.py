"""The main job with a small network on a small demo."""

import pytest
from small_simclr import small_networks

import main
from simclr_rhd.planning import profiler

SMALL = "--demo-patients 24 --image-size 32 --epochs 1 --linear-epochs 2 --batch-size 32".split()


def arguments(cache, save_dir, *more):
    return [*SMALL, "--cache-dir", str(cache), "--save-dir", str(save_dir), *more]


def run_small(argv):
    """Run with a small network, whose steps are measured in this process."""
    with small_networks(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiler, "profile_step", profiler._profile)
        return main.main([*argv, "--precision", "float32"])
