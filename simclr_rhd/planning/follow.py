"""The run of a process that follows the leader: its share of the store, and of every batch."""

from simclr_rhd.config import Config
from simclr_rhd.data.store.store import Store
from simclr_rhd.data.store.together import join_store
from simclr_rhd.planning.dry_run import shortened
from simclr_rhd.planning.plan_training import share_time_plan
from simclr_rhd.runs.context import RunContext
from simclr_rhd.ssl.encoder.model import build
from simclr_rhd.ssl.pretrain import pretrain, pretrain_folds, receive_data


def follow(config: Config, run: RunContext) -> None:
    """Do what the leader does with all ranks, in its order: read, rehearse, pretrain.

    Raises:
        ErrorOfAllRanks: one of the ranks has ended in a `UserError`.
    """
    store = join_store(config)
    if config.has_rehearsal:
        _pretrain(shortened(config), store, run)
    config, run = share_time_plan(config, run)
    _pretrain(config, store, run)


def _pretrain(config: Config, store: Store, run: RunContext) -> None:
    settings, (data, *folds) = receive_data(store)
    model = build(config.init, seed=config.seed)
    pretrain(config, settings, data, model, run, n_left=1 + len(folds))
    pretrain_folds(config, settings, folds, run)
