import numpy as np
import pytest
import torch
from no_float64 import NoFloat64

from simclr_rhd.ssl.augment import sample_view_params
from simclr_rhd.ssl.batches import Batch
from simclr_rhd.ssl.config import PretrainConfig, TrainingSettings
from simclr_rhd.ssl.encoder.model import build
from simclr_rhd.ssl.loss import nt_xent
from simclr_rhd.ssl.step import Step

SIZE, SIDE = 32, 37


def batch(n=7, with_partners=False):
    rng = np.random.default_rng(3)
    frames = torch.from_numpy(rng.integers(0, 256, (n * (1 + with_partners), 3, SIDE, SIDE), np.uint8))
    kinds = torch.ones(len(frames), dtype=torch.uint8)
    return Batch(frames, kinds, sample_view_params(0, 1, np.arange(n))[0], torch.arange(n) // 2)


def step(micro_batch=None, *, training=True, positives="frame", precision="float32"):
    config = PretrainConfig(image_size=SIZE, temperature=0.3)
    settings = TrainingSettings(micro_batch=micro_batch, positives=positives, precision=precision)
    return Step(build("random", seed=1).train(training), config, settings, torch.device("cpu"))


def in_double(of):
    """The step in float64: statistics of two or three frames magnify the rounding of float32."""
    of.model.double()
    views = of.views
    of.views = lambda batch: views(batch).double()
    return of


def gradients(of):
    return {name: p.grad.clone() for name, p in of.model.named_parameters()}


def assert_equal_gradients(one, other):
    scale = max(float(g.abs().max()) for g in other.values())
    for name in other:
        torch.testing.assert_close(one[name], other[name], atol=1e-5 * scale, rtol=1e-4, msg=name)


@pytest.mark.parametrize("partners", [False, True])
@pytest.mark.parametrize("micro_batch", [2, 3, 6])
def test_pieces_give_the_loss_and_gradients_of_the_whole(micro_batch, partners):
    """With BatchNorm in evaluation mode nothing but memory depends on the pieces."""
    whole, pieces = step(training=False), step(micro_batch, training=False)
    some = batch(with_partners=partners)
    torch.testing.assert_close(whole.backward(some), pieces.backward(some))
    assert_equal_gradients(gradients(pieces), gradients(whole))


@pytest.mark.parametrize("videos_apart", [False, True])
def test_pieces_give_the_gradients_of_one_graph_over_the_same_pieces(videos_apart):
    """In training mode BatchNorm's statistics are those of a piece, whoever computes."""
    positives = "video" if videos_apart else "frame"
    pieces, direct = in_double(step(3, positives=positives)), in_double(step(positives=positives))
    some = batch()
    z0, z1 = (
        torch.cat(views)
        for views in zip(
            *(direct.embed(some.micro_batch(first, n)) for first, n in ((0, 2), (2, 2), (4, 3))), strict=True
        )
    )
    loss = nt_xent(z0, z1, 0.3, videos=some.videos if videos_apart else None)
    loss.backward()
    torch.testing.assert_close(pieces.backward(some), loss.detach())
    assert_equal_gradients(gradients(pieces), gradients(direct))
    for (name, one), other in zip(pieces.model.named_buffers(), direct.model.buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)  # each piece counted once


def test_embedding_plainly_changes_nothing_and_does_not_depend_on_the_batch():
    one = step()
    before = {name: x.clone() for name, x in one.model.state_dict().items()}
    some = batch()
    together = one.embed_eval(one.model, some)
    for row in range(7):
        for view, alone in zip(together, one.embed_eval(one.model, some.micro_batch(row, 1)), strict=True):
            torch.testing.assert_close(alone[0], view[row], atol=1e-5, rtol=1e-5)
    assert one.model.training
    assert all(torch.equal(before[name], x) for name, x in one.model.state_dict().items())


def test_data_parallel_keeps_a_frames_views_together_and_changes_nothing():
    """Without a GPU it has one replica, which computes the same."""
    plain, wrapped, some = step(), step(), batch()
    wrapped.model = torch.nn.DataParallel(wrapped.model)
    torch.testing.assert_close(wrapped.backward(some), plain.backward(some))
    found = {name.removeprefix("module."): g for name, g in gradients(wrapped).items()}
    scale = max(float(g.abs().max()) for g in found.values())
    for name, gradient in gradients(plain).items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4 * scale, rtol=1e-3, msg=name)


def test_bfloat16_trains_as_float32_does_but_for_its_rounding():
    exact, rounded, some = step(), step(precision="bfloat16"), batch()
    z, rough = exact.embed(some)[0], rounded.embed(some)[0]
    assert rough.dtype == torch.bfloat16 and not torch.equal(z, rough.float())
    cosine = torch.nn.functional.cosine_similarity(z, rough.float())
    assert cosine.min() > 0.99
    torch.testing.assert_close(rounded.backward(some), exact.backward(some), atol=0.05, rtol=0)
    assert all(p.grad.dtype == torch.float32 for p in rounded.model.parameters())


def test_embeddings_to_be_looked_at_are_float32_whatever_a_model_is_trained_in():
    z, same = (of.embed_eval(of.model, batch())[0] for of in (step(), step(precision="bfloat16")))
    assert torch.equal(z, same)


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_a_step_needs_no_float64_on_its_device(micro_batch):
    """GPUs of Apple have none."""
    some, of = batch(), step(micro_batch)
    assert all(part.dtype != torch.float64 for part in (some.frames, some.view_params, some.videos))
    with NoFloat64():
        of.backward(some)
