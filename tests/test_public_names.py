"""Names that other programs import from the package."""

import torch

import simclr_rhd.ssl.loss


def test_the_public_names_are_imported_from_their_places():
    from simclr_rhd import load_model
    from simclr_rhd.loss import nt_xent

    assert callable(load_model) and nt_xent is simclr_rhd.ssl.loss.nt_xent


def test_the_public_loss_takes_two_views_and_a_temperature():
    from simclr_rhd.loss import nt_xent

    loss = nt_xent(torch.eye(4), torch.eye(4), temperature=0.5)
    assert loss.shape == () and loss > 0
