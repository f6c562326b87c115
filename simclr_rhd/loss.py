"""The public place of the loss, for scripts of others: `from simclr_rhd.loss import nt_xent`."""

from simclr_rhd.ssl.loss import nt_xent

__all__ = ["nt_xent"]
