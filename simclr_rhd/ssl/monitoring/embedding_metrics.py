"""Measures of the embeddings: alignment, uniformity, rank, the loss they can reach, the vote of neighbours.

NT-Xent alone does not show whether training works: its value depends on the batch and the temperature, and it
falls a little even where the embeddings are of no use. Everything is computed in float64 on the CPU, so that
the same embeddings give the same figures, but for the neighbours' similarities (float32).

Notation: N pairs, n rows, D the embeddings' dimension, F the features'.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

QUERIES_AT_ONCE = 1024  # rows whose neighbours are sought at once: bounds the memory


def alignment(z0: Tensor, z1: Tensor) -> float:
    """Mean squared distance of positive pairs on the unit sphere (Wang & Isola 2020, section 4.1; α = 2).

    Args:
        z0: (N, D) embeddings of the first views, not normalised.
        z1: (N, D) embeddings of the second views; row i belongs to row i of `z0`.

    Returns:
        0 (each pair alike) to 4 (opposite); 2 where the pairs have nothing in common.

    Raises:
        ValueError: shapes differ or are not (N, D), or a value is not finite.
    """
    if z0.shape != z1.shape:
        raise ValueError(f"wanted two (N, D) tensors of one shape, got {tuple(z0.shape)}, {tuple(z1.shape)}")
    gap = _on_sphere(z0, at_least=1) - _on_sphere(z1, at_least=1)  # (N, D)
    return float(gap.square().sum(dim=1).mean())


def uniformity(z: Tensor) -> float:
    """Log mean exp(-2 |zi - zj|²) over distinct pairs on the unit sphere (Wang & Isola 2020, 4.1; t = 2).

    Time and memory grow with n²: a few thousand rows are enough, and as many as one wants.

    Args:
        z: (n, D) embeddings, not normalised, of n different frames.

    Returns:
        0 (all alike) to some -4 + 8 / D where evenly spread (D ≥ 8); less than -8 never.

    Raises:
        ValueError: not (n, D) with n ≥ 2, or a value is not finite.
    """
    distances = torch.pdist(_on_sphere(z, at_least=2))  # (n (n - 1) / 2,)
    return float(distances.square().mul(-2).exp().mean().log())


def effective_rank(z: Tensor) -> float:
    """Number of directions that the embeddings use (RankMe, Garrido et al. 2023; Roy & Vetterli 2007).

    The exponential of the entropy of the singular values, divided by their sum. RankMe adds 1e-7 to each
    against the logarithm of 0; here 0 log 0 is 0. Neither centred nor normalised, as there.

    Args:
        z: (n, D) embeddings.

    Returns:
        1 (one direction) to min(n, D) (all alike strong); 0, the rank of the matrix, if all values are 0.

    Raises:
        ValueError: not (n, D) with n ≥ 1, or a value is not finite.
    """
    singular = torch.linalg.svdvals(_validate_embeddings(z, at_least=1))
    if singular[0] == 0:
        return 0.0
    return float(torch.special.entr(singular / singular.sum()).sum().exp())


def ideal_loss(n_logits: ArrayLike, dim: int, temperature: float) -> float:
    """NT-Xent where positives coincide and negatives lie evenly on the unit sphere of `dim` dimensions.

    A row with m candidates then has the loss log(e^(1/τ) + (m-1) M) - 1/τ, where M is the mean of e^(cos/τ)
    over the sphere. It is what the loss tends to from below as batches grow (Wang & Isola 2020, theorem 1):
    a mark to aim at, not a bound. Few rows can keep further apart than evenly spread ones (a simplex), and by
    chance have a lower loss on the mean, the more so the lower the temperature.

    Args:
        n_logits: m of each row, the positive and the negatives, as of `loss.n_logits`; 2N-1 in a batch
            without masked negatives.
        dim: D.
        temperature: τ > 0. Time and memory grow with 1/τ: a thousand numbers at 0.001.

    Returns:
        The mean over rows.

    Raises:
        ValueError: no rows, one without a candidate, D below 1, or a temperature that is not above 0.
    """
    m = np.asarray(n_logits, dtype=np.float64).ravel()
    if len(m) == 0 or m.min() < 1 or dim < 1:
        raise ValueError(f"wanted rows of at least 1 candidate, in at least 1 dimension, got {m}, {dim}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    with np.errstate(divide="ignore"):  # a row without negatives: the logarithm of 0
        negatives = np.log(m - 1) + _log_mean_exp_cosine(dim, 1 / temperature)
    return float(np.logaddexp(0, negatives - 1 / temperature).mean())


def knn_scores(
    features: np.ndarray,
    values: Mapping[str, np.ndarray],
    n_classes: Mapping[str, int],
    groups: Sequence[str] | np.ndarray,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> dict[str, float | None]:
    """Balanced accuracy of each task, each frame classified by its nearest frames of other groups.

    A weighted vote (Wu et al. 2018, section 3.4): the k most similar annotated rows of other groups vote for
    their class with exp(cosine / temperature); rows as similar as the k-th vote, too, so that the order of
    the rows does not matter. Of equal votes the first class has it. Features are centred by their mean:
    after a ReLU all point much the same way, and cosines between them would hardly differ.

    A class of one group has no neighbours to be found by: it votes, but its recall does not count.

    Args:
        features: (n, F) float32, of the frozen encoder.
        values: {task: (n,) class indices, -1 = not annotated}.
        n_classes: {task: C}.
        groups: n patients or videos.
        k: neighbours.
        temperature: of the votes.

    Returns:
        {task: mean recall over the classes of two groups or more; None with fewer than two such classes}.

    Raises:
        ValueError: lengths differ, k or the temperature is not above 0, or a feature is not finite.
    """
    if k < 1 or not temperature > 0:
        raise ValueError(f"k and temperature must be above 0, got {k}, {temperature}")
    lengths = {len(features), len(groups), *map(len, values.values())}
    if len(lengths) != 1:
        raise ValueError(f"features, groups and the values of each task must be as many, got {lengths}")
    z = _validate_embeddings(torch.tensor(features), at_least=0)
    z = F.normalize(z - z.mean(dim=0), dim=1)  # (n, F)
    directions, names = z.float().numpy(), np.asarray(groups)
    scores = {}
    for task, labels in values.items():
        seen = labels >= 0
        scores[task] = _knn_score(
            directions[seen], labels[seen], n_classes[task], names[seen], k=k, temperature=temperature
        )
    return scores


def _validate_embeddings(z: Tensor, *, at_least: int) -> Tensor:
    """The rows in float64 on the CPU."""
    if z.ndim != 2 or len(z) < at_least or z.shape[1] == 0:
        raise ValueError(f"wanted at least {at_least} rows of embeddings (n, D), got {tuple(z.shape)}")
    z = z.detach().to("cpu", torch.float64)
    if not z.isfinite().all():
        raise ValueError("the embeddings hold values that are not finite: the model has diverged")
    return z


def _on_sphere(z: Tensor, *, at_least: int) -> Tensor:
    return F.normalize(_validate_embeddings(z, at_least=at_least), dim=1)


def _log_mean_exp_cosine(dim: int, concentration: float) -> float:
    """Log E[e^(κ cos)] over the unit sphere, cos the cosine to a fixed direction; κ is `concentration`.

    It is log 0F1(; D/2; κ²/4), the normaliser of the von Mises-Fisher distribution (Mardia & Jupp 2000,
    9.3). SciPy's hyp0f1 overflows at a large κ and its Bessel function ive underflows at a large D. The
    series has positive terms only, so it is summed as it stands, in logs. Beyond term κ each is less than
    about a quarter of the one before: 64 more leave nothing out.
    """
    term = np.arange(1, math.ceil(concentration) + 64, dtype=np.float64)
    ratios = 2 * math.log(concentration / 2) - np.log(term) - np.log(dim / 2 + term - 1)  # to the one before
    return float(np.logaddexp.reduce(np.concatenate([[0.0], np.cumsum(ratios)])))


def _knn_score(
    z: np.ndarray, labels: np.ndarray, n_classes: int, groups: np.ndarray, *, k: int, temperature: float
) -> float | None:
    """Mean recall over the classes that live in several groups; `z` is (n, F) unit vectors, all annotated."""
    _, group = np.unique(groups, return_inverse=True)
    class_of_group = np.unique(np.stack([labels, group]), axis=1)[0]  # a class once for each of its groups
    findable = np.flatnonzero(np.bincount(class_of_group, minlength=n_classes) >= 2)
    if len(findable) < 2:
        return None
    one_hot = np.eye(n_classes, dtype=np.float32)[labels]  # (n, C)
    queries = np.flatnonzero(np.isin(labels, findable))  # all have another group's rows to find
    predicted = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        batch = queries[start : start + QUERIES_AT_ONCE]
        similarity = z[batch] @ z.T  # (q, n)
        similarity[group[batch][:, None] == group] = -np.inf
        kth = np.partition(similarity, -min(k, len(z)), axis=1)[:, -min(k, len(z)), None]
        closeness = (similarity - similarity.max(axis=1, keepdims=True)) / temperature  # cannot overflow
        votes = (np.exp(closeness) * (similarity >= kth)) @ one_hot  # (q, C)
        predicted[start : start + QUERIES_AT_ONCE] = votes.argmax(axis=1)
    true = labels[queries]
    return float(np.mean([np.mean(predicted[true == number] == number) for number in findable]))
