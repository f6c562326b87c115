"""A trained model as Python sees it: pictures in, typed answers out.

Notation: n pictures, C classes or lesions of a task.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from simclr_rhd.core.device import resolve_device
from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding import image as frames
from simclr_rhd.data.decoding.decode import OK, classify_content
from simclr_rhd.data.labels.prevalence import adjust_prevalence, balanced_choice
from simclr_rhd.data.labels.vocabulary import format_label
from simclr_rhd.evaluation.selective import confidence_scores
from simclr_rhd.inference import classifier
from simclr_rhd.ssl.model import fuse_batchnorm

ImageInput = np.ndarray | Image.Image | str | Path
BATCH_SIZE = 64  # frames at once
SHARE_SUM_TOLERANCE = 0.005  # that the shares of all classes may be off 1, as they are rounded


@dataclass(frozen=True)
class Predictions:
    """What a model says of n pictures.

    Attributes:
        classes: {task: names of its C classes, or lesions}.
        multilabel: the tasks of which each lesion is a yes or no of its own.
        probabilities: {task: (n, C) float64}, calibrated; rows sum to 1, but for lesions.
        novelty: (n,) float64, how far a picture is from those learnt from: above 1 is farther, in one of
            three ways, than 99 % of frames of patients left out; NaN where the model cannot tell.
        embeddings: (n, 512) float32 features of the encoder.
        plain: (n,) bool, whether a picture is near-black or of one colour: nothing can be said of it.
        prevalence: {task: (C,) shares of the classes that the probabilities hold for}.
    """

    classes: dict[str, list[str]]
    multilabel: frozenset[str]
    probabilities: dict[str, np.ndarray]
    novelty: np.ndarray
    embeddings: np.ndarray
    plain: np.ndarray
    prevalence: dict[str, np.ndarray]

    @property
    def out_of_distribution(self) -> np.ndarray:
        """(n,) bool: pictures that are unlike those the model has learnt from; their answers mean nothing."""
        return (np.nan_to_num(self.novelty) > 1) | self.plain

    def predicted(self, task: str) -> list[str]:
        """N names: the balanced choice, see `predicted_names`."""
        return predicted_names(
            self.probabilities[task],
            self.classes[task],
            multilabel=task in self.multilabel,
            prevalence=self.prevalence[task],
        )

    def confidence(self, task: str) -> np.ndarray:
        """(n,) the probability of what is predicted; of lesions, of the least sure one."""
        return confidence(
            self.probabilities[task], multilabel=task in self.multilabel, prevalence=self.prevalence[task]
        )

    def entropy(self, task: str) -> np.ndarray:
        """(n,) in nats, 0 where the model is sure; of lesions, the sum over them."""
        return entropy(self.probabilities[task], multilabel=task in self.multilabel)

    def at_prevalence(self, shares: Mapping[str, float]) -> "Predictions":
        """The same with the probabilities for other shares of classes, see `resolve_prevalence`."""
        to = resolve_prevalence(self.classes, self.multilabel, self.prevalence, shares)
        p = {
            task: adjust_probabilities(
                of, self.prevalence[task], to[task], multilabel=task in self.multilabel
            )
            for task, of in self.probabilities.items()
        }
        return replace(self, probabilities=p, prevalence=to)


class Model:
    """A classifier that a run has written, ready to be asked.

    Args:
        path: the run's `model.pt`.
        device: 'auto', 'cpu' or 'cuda'.

    Raises:
        UserError: the file is no model of this program and version, or is damaged.
    """

    def __init__(self, path: str | Path, *, device: str = "auto") -> None:
        self.device = resolve_device(device)
        self.net = classifier.load(path)
        self.facts = self.net.facts
        self.net.encoder = fuse_batchnorm(self.net.encoder)
        self.net.to(self.device)
        self.multilabel = self.net.heads.multilabel
        held = self.net.heads.split_by_task(self.net.heads.prevalence)
        self.prevalence = {task: of_task.cpu().numpy() for task, of_task in held.items()}

    @property
    def classes(self) -> dict[str, list[str]]:
        """{task: names of its classes, or lesions}, in the order of the probabilities."""
        return self.facts.classes

    def predict(self, images: Iterable[ImageInput] | ImageInput) -> Predictions:
        """Classify pictures, or one.

        Args:
            images: arrays (H, W) or (H, W, 3) of uint8 RGB, Pillow images, or paths of picture files, of any
                size; each is padded to a square and resized as in the training.

        Raises:
            UserError: one cannot be used; the message says which and why.
        """
        if isinstance(images, np.ndarray | Image.Image | str | Path):
            images = [images]
        squares = (self._prepare_image(number, image) for number, image in enumerate(images))
        return _concatenate(self, [self.answer(np.stack(some)) for some in _batches(squares)])

    def embed(self, images: Iterable[ImageInput] | ImageInput) -> np.ndarray:
        """(n, 512) float32 features of pictures; arguments and errors as of `predict`."""
        return self.predict(images).embeddings

    @torch.inference_mode()
    def answer(self, squares: np.ndarray) -> Predictions:
        """Classify prepared frames: (n, 3, S, S) uint8, squares of `facts.stored_side` pixels; n ≥ 1."""
        found = {
            name: value.cpu().numpy()
            for name, value in self.net(torch.from_numpy(squares).to(self.device)).items()
        }
        return Predictions(
            self.classes,
            self.multilabel,
            {task: found[task] for task in self.classes},
            # a distance that cannot be computed, though the model knows distances, is a far one
            np.where(np.isnan(found["novelty"]) & (self.net.novelty is not None), np.inf, found["novelty"]),
            found["features"].astype(np.float32),
            np.array([classify_content(square) != OK for square in squares]),
            self.prevalence,
        )

    def abstains(self, task: str, probabilities: np.ndarray, *, level: str) -> np.ndarray | None:
        """(n,) whether an answer is not to be taken, as it is not proved that few so sure are wrong.

        Args:
            task: of the answers.
            probabilities: (n, C), for the model's own prevalence.
            level: 'frame' or 'video', what they are of.

        Returns:
            None where there is no threshold from validation frames.
        """
        names, held = self.classes[task], self.prevalence[task]
        if task not in self.multilabel:
            limit = self.facts.thresholds.get(task, {}).get(level)
            return None if limit is None else confidence_scores(probabilities, held) < limit
        unsure, known = np.zeros(len(probabilities), dtype=bool), False
        for number, name in enumerate(names):
            limit = self.facts.thresholds.get(f"{task}: {name}", {}).get(level)
            if limit is not None:
                p, known = probabilities[:, number], True
                unsure |= np.where(p >= held[number], p, 1 - p) < limit
        return unsure if known else None

    def _prepare_image(self, number: int, image: ImageInput) -> np.ndarray:
        where = f"image {number}"
        try:
            if isinstance(image, str | Path):
                where = str(image)
                image = frames.decode_image(Path(image).read_bytes())
            elif isinstance(image, Image.Image):
                image = frames.to_rgb(image)
            if not isinstance(image, np.ndarray):
                raise ValueError(f"found a {type(image).__name__}, wanted an array, a Pillow image or a path")
            if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
                raise ValueError(
                    f"found an array {image.shape} of {image.dtype}, wanted (H, W) or (H, W, 3) of uint8"
                )
            if image.ndim == 2:
                image = np.repeat(image[..., None], 3, axis=2)
            if min(image.shape[:2]) < frames.MIN_SIDE:
                raise ValueError(f"too small ({image.shape[1]}x{image.shape[0]})")
            return frames.letterbox(image, self.facts.stored_side)
        except OSError as error:
            raise UserError(f"{where}: {error.strerror or error}") from None
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None


def predicted_names(
    probabilities: np.ndarray, names: Sequence[str], *, multilabel: bool, prevalence: np.ndarray
) -> list[str]:
    """N names of what (n, C) probabilities say that hold for a (C,) prevalence: the balanced choice.

    That is the class whose probability is largest for its prevalence
        (`prevalence.balanced_choice`); of lesions those
    that are at least as probable as they are frequent.
    """
    present = (probabilities >= prevalence).astype(int)
    values = present if multilabel else balanced_choice(probabilities, prevalence)
    return [format_label(value, names) for value in values]


def confidence(probabilities: np.ndarray, *, multilabel: bool, prevalence: np.ndarray) -> np.ndarray:
    """(n, C) -> (n,): the probability of what is said; of lesions, of the least sure one."""
    if multilabel:
        return np.where(probabilities >= prevalence, probabilities, 1 - probabilities).min(axis=1)
    return confidence_scores(probabilities, prevalence)


def adjust_probabilities(
    p: np.ndarray, prevalence: np.ndarray, to: np.ndarray, *, multilabel: bool
) -> np.ndarray:
    """(n, C) probabilities for another prevalence (`adjust_prevalence`); a lesion is one of two."""
    if not multilabel:
        return adjust_prevalence(p, prevalence, to)
    pairs = zip(p.T, prevalence, to, strict=True)
    return np.stack(
        [
            adjust_prevalence(
                np.stack([1 - of, of], axis=1), np.array([1 - held, held]), np.array([1 - new, new])
            )[:, 1]
            for of, held, new in pairs
        ],
        axis=1,
    )


def resolve_prevalence(
    classes: Mapping[str, Sequence[str]],
    multilabel: Collection[str],
    prevalence: Mapping[str, np.ndarray],
    shares: Mapping[str, float],
) -> dict[str, np.ndarray]:
    """{task: (C,) shares of its classes} of which some are given; the others keep their proportions.

    Args:
        classes: {task: names of its C classes, or lesions}.
        multilabel: the tasks whose outputs are lesions, of which each has a share of its own.
        prevalence: {task: (C,)} as it was.
        shares: {class: share above 0 and below 1}; a class that several tasks have is called TASK:CLASS.

    Raises:
        UserError: there is no such class, several tasks have it, or the shares of a task do not fit.
    """
    given: dict[str, dict[int, float]] = {task: {} for task in classes}
    for name, share in shares.items():
        found = [
            (task, names.index(name.removeprefix(f"{task}:")))
            for task, names in classes.items()
            if name in names or (name.startswith(f"{task}:") and name.removeprefix(f"{task}:") in names)
        ]
        if not found:
            known = ", ".join(f"{task}:{of}" for task, names in classes.items() for of in names)
            raise UserError(f"--prevalence {name}: the model has no such class; it has {known}")
        if len(found) > 1:
            tasks = " or ".join(f"'{task}:{name}'" for task, _ in found)
            raise UserError(f"--prevalence {name}: {len(found)} tasks have this class; name it {tasks}")
        if not 0 < share < 1:
            raise UserError(f"--prevalence {name}={share:g}: wanted a share above 0 and below 1")
        (task, number), *_ = found
        if given[task].setdefault(number, share) != share:
            raise UserError(f"--prevalence {name}={share:g}: the class has another share already")
    moved_to = {}
    for task, of_task in given.items():
        new, numbers = prevalence[task].copy(), list(of_task)
        new[numbers] = list(of_task.values())
        if numbers and task not in multilabel:
            rest, total = np.setdiff1d(np.arange(len(new)), numbers), sum(of_task.values())
            if (len(rest) and total >= 1) or (not len(rest) and abs(total - 1) > SHARE_SUM_TOLERANCE):
                wanted = "less than 1, as other classes are left" if len(rest) else "1, as they are all"
                raise UserError(f"--prevalence: the shares of {task} add up to {total:g}; wanted {wanted}")
            if len(rest):
                new[rest] *= (1 - total) / new[rest].sum()
            new /= new.sum()
        moved_to[task] = new
    return moved_to


def entropy(probabilities: np.ndarray, *, multilabel: bool) -> np.ndarray:
    """(n, C) -> (n,) in nats; of lesions, the sum over them."""
    p = np.clip(probabilities, 1e-300, 1)
    found = -(p * np.log(p)).sum(axis=1)
    if multilabel:
        q = np.clip(1 - probabilities, 1e-300, 1)
        found -= (q * np.log(q)).sum(axis=1)
    return np.maximum(found, 0)


def _batches(squares: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    while some := list(islice(squares, BATCH_SIZE)):
        yield some


def _concatenate(model: Model, parts: Sequence[Predictions]) -> Predictions:
    if not parts:
        nothing: Mapping[str, np.ndarray] = {
            task: np.zeros((0, len(names))) for task, names in model.classes.items()
        }
        empty = np.zeros(0)
        return Predictions(
            model.classes,
            model.multilabel,
            dict(nothing),
            empty,
            np.zeros((0, 512), np.float32),
            empty > 0,
            model.prevalence,
        )
    return Predictions(
        model.classes,
        model.multilabel,
        {task: np.concatenate([part.probabilities[task] for part in parts]) for task in model.classes},
        np.concatenate([part.novelty for part in parts]),
        np.concatenate([part.embeddings for part in parts]),
        np.concatenate([part.plain for part in parts]),
        model.prevalence,
    )
