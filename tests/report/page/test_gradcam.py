import numpy as np
import torch

from simclr_rhd.heads.model import Heads
from simclr_rhd.report.page.gradcam import Logits, grad_cam
from simclr_rhd.ssl.augment import eval_view
from simclr_rhd.ssl.encoder.model import build, stage_maps


def models():
    encoder, heads = (
        build("random", seed=0).encoder,
        Heads({"view": 3, "condition": 2}, multilabel=["condition"]),
    )
    heads.std.uniform_(0.5, 2)
    heads.mean.normal_()
    heads.temperature.fill_(1.7)
    return encoder, heads


def frames(n, side=74):
    return np.random.default_rng(0).integers(0, 256, (n, 1, side, side), dtype=np.uint8)


def by_gradients(encoder, heads, frame, task, output, size):
    """Selvaraju et al. 2017, equations 1 and 2, of each stage with a backward pass; the sum of the stages."""
    maps = stage_maps(encoder.eval(), eval_view(torch.from_numpy(frame[None]), size=size))
    maps = [x.detach().requires_grad_() for x in maps]  # each stage counts by its own mean alone
    features = torch.cat([x.mean(dim=(2, 3)) for x in maps], dim=1)
    gradients = torch.autograd.grad(heads(features)[task][0, output], maps)
    cam = torch.full(
        (1, 1, size, size), -float(torch.cat([g.sum(dim=(2, 3)) for g in gradients], 1) @ heads.mean)
    )
    for gradient, x in zip(gradients, maps, strict=True):
        fields = gradient[0, 0].numel()
        of_stage = fields * (gradient.mean(dim=(2, 3), keepdim=True) * x).sum(dim=1, keepdim=True).detach()
        cam += torch.nn.functional.interpolate(of_stage, size=(size, size), mode="bicubic")
    cam = cam[0, 0].relu()
    return (cam / cam.max().clamp(min=1e-12)).numpy()


def test_it_is_grad_cam_with_gradients():
    encoder, heads = models()
    some, outputs = frames(3), np.array([2, 0, 1])
    heat = grad_cam(encoder, heads, some, Logits("view", outputs, np.ones(len(outputs))), size=64)
    assert heat.shape == (3, 64, 64) and heat.min() == 0
    for one, frame, output in zip(heat, some, outputs, strict=True):
        np.testing.assert_allclose(one, by_gradients(encoder, heads, frame, "view", output, 64), atol=1e-4)


def test_the_encoder_is_left_as_it_was():
    encoder, heads = models()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.train()
    grad_cam(encoder, heads, frames(2), Logits("condition", np.array([1, 1]), np.ones(2)), size=32)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_what_speaks_against_a_class_is_no_heat():
    encoder, heads = models()
    with torch.no_grad():
        heads.linear["view"].weight.fill_(-1)
        heads.mean.zero_()  # as if the training frames had been black
    heat = grad_cam(encoder, heads, frames(1), Logits("view", np.array([0]), np.ones(1)), size=64)
    assert (heat == 0).all()


def test_what_speaks_against_a_lesion_is_what_speaks_for_its_absence():
    encoder, heads = models()
    twice, lesion = np.repeat(frames(1), 2, axis=0), np.array([1, 1])
    heat = grad_cam(encoder, heads, twice, Logits("condition", lesion, np.array([1.0, -1.0])), size=64)
    with torch.no_grad():
        heads.linear["condition"].weight.neg_()
    against = grad_cam(encoder, heads, twice[:1], Logits("condition", lesion[:1], np.ones(1)), size=64)
    np.testing.assert_allclose(heat[1], against[0], atol=1e-5)
    assert np.abs(heat[0] - heat[1]).max() > 0.1
