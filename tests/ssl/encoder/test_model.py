import numpy as np
import torch
from torch import nn

from simclr_rhd.ssl.encoder.features import extract
from simclr_rhd.ssl.encoder.model import STAGE_DIMS, build, forward_with_ood_stats, stage_features, stage_maps


def test_features_are_the_means_of_all_stages_the_last_one_last():
    encoder = build("random", seed=0).encoder.eval()
    views = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features, maps = stage_features(encoder, views), stage_maps(encoder, views)
        torch.testing.assert_close(features[:, -STAGE_DIMS[-1] :], encoder(views))
        torch.testing.assert_close(forward_with_ood_stats(encoder, views)["features"], features)
    assert [tuple(x.shape[1:]) for x in maps] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    for x, mean in zip(maps, features.split(STAGE_DIMS, dim=1), strict=True):
        torch.testing.assert_close(x.mean(dim=(2, 3)), mean)


def test_the_encoder_is_evaluated_and_left_in_training():
    encoder = build("random", seed=0).encoder.train()
    frames = np.random.default_rng(0).integers(0, 256, (3, 1, 37, 37), dtype=np.uint8)
    before = encoder.bn1.running_mean.clone()
    extract(encoder, frames, np.arange(3), size=32, device=torch.device("cpu"))
    assert all(part.training for part in encoder.modules() if isinstance(part, nn.BatchNorm2d))
    assert torch.equal(encoder.bn1.running_mean, before)
