"""Two-dimensional maps of the features: t-SNE (van der Maaten & Hinton 2008), UMAP (McInnes et al. 2018)."""

import warnings

import numpy as np


def project(features: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """t-SNE and UMAP of the first 50 principal components, both started from the first two.

    Args:
        features: (n, D) float32, n >= 3.
        seed: seed.

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
        jitter = np.random.default_rng([seed, 7]).normal(scale=1e-3, size=(len(x), 2))  # equal rows must part
        start = (x[:, :2] / max(x[:, 0].std(), 1e-12) + jitter).astype(np.float32)
        with threadpool_limits(1):  # a sum over threads has no order, and t-SNE magnifies that
            tsne = TSNE(perplexity=min(30, (len(x) - 1) / 3), init=1e-4 * start, random_state=seed)
            umap = UMAP(n_neighbors=min(15, len(x) - 1), init=start, random_state=seed, n_jobs=1)
            return tsne.fit_transform(x), umap.fit_transform(x)
