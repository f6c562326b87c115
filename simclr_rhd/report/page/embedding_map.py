"""Two-dimensional maps of the features: t-SNE (van der Maaten & Hinton 2008), UMAP (McInnes et al. 2018).

UMAP compiles itself at its first use, some ten seconds. So both are computed in a process of their own,
beside whatever else is done once there are features: the maps are wanted last.

Notation: n rows of features, D dimensions.
"""

import multiprocessing
import signal
import warnings
from multiprocessing.connection import Connection
from types import TracebackType

import numpy as np

from simclr_rhd.core.seeding import Stream, make_rng

METHODS = ("t-SNE", "UMAP")
MAX_POINTS = (
    4000  # rows of a map; t-SNE of that many takes some 20 s, and UMAP's neighbours are exact below 4,096
)


def project(features: np.ndarray, *, seed: int, rehearsal: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """t-SNE and UMAP of the first 50 principal components, both started from the first two.

    Args:
        features: (n, D) float32, n >= 3.
        seed: seed.
        rehearsal: whether both maps are the start, since UMAP would compile itself.

    Returns:
        (n, 2) float32 t-SNE and (n, 2) float32 UMAP coordinates.

    Raises:
        ValueError: fewer than three rows.
    """
    if len(features) < 3:
        raise ValueError(f"a map needs at least 3 rows of features, got {len(features)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of umap and numba, about their own insides
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
        from umap import UMAP

        x = PCA(min(50, *features.shape), svd_solver="full").fit_transform(features.astype(np.float64))
        rng = make_rng(seed, Stream.EMBEDDING_MAP)
        jitter = rng.normal(scale=1e-3, size=(len(x), 2))  # equal rows must part
        start = (x[:, :2] / max(x[:, 0].std(), 1e-12) + jitter).astype(np.float32)
        with threadpool_limits(1):  # a sum over threads has no order, and t-SNE magnifies that
            tsne = TSNE(perplexity=min(30, (len(x) - 1) / 3), init=1e-4 * start, random_state=seed)
            umap = UMAP(n_neighbors=min(15, len(x) - 1), init=start, random_state=seed, n_jobs=1)
            return (start, start) if rehearsal else (tsne.fit_transform(x), umap.fit_transform(x))


class MapsMissing(Exception):
    """There are no maps; the message is the reason."""


class EmbeddingWorker:
    """`project` in a process of its own, from the moment this is made; leaving the block ends the process.

    Args:
        features: (n, D) float32.
        seed: seed.
        rehearsal: as `project` has it.
    """

    def __init__(self, features: np.ndarray, *, seed: int, rehearsal: bool = False) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
        self.receiver, sending = context.Pipe(duplex=False)
        self.process = context.Process(
            target=_run_worker, args=(sending, features, seed, rehearsal), daemon=True
        )
        # a terminal's Ctrl-C reaches all its processes: this one is ended by its parent
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sending.close()

    def __enter__(self) -> "EmbeddingWorker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.join()
        self.receiver.close()

    def maps(self, timeout_s: float | None = None) -> dict[str, np.ndarray]:
        """{method: (n, 2) float32}, once they are there.

        Args:
            timeout_s: seconds to wait for them at most; None: as long as it takes.

        Raises:
            MapsMissing: the process failed, ended without them, or takes too long.
        """
        if timeout_s is not None and not self.receiver.poll(max(0.0, timeout_s)):
            raise MapsMissing("there was no time to wait for them")
        try:
            received = self.receiver.recv()
        except EOFError:
            self.process.join()
            raise MapsMissing(
                f"the process that computes t-SNE and UMAP ended with status {self.process.exitcode}, "
                "perhaps for want of memory"
            ) from None
        if isinstance(received, str):
            raise MapsMissing(received)
        return dict(zip(METHODS, received, strict=True))


def _run_worker(sender: Connection, features: np.ndarray, seed: int, rehearsal: bool) -> None:
    """Work of the process; it sends the maps, or the fault, to its parent, which may be gone by then."""
    result: object
    try:
        result = project(features, seed=seed, rehearsal=rehearsal)
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    try:
        sender.send(result)
    except BrokenPipeError:
        pass
