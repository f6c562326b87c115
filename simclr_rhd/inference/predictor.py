"""A trained model as Python sees it: pictures in, predictions out.

Notation: n pictures, C classes or lesions of a task.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from simclr_rhd.data.labelled_set import Probabilities
from simclr_rhd.data.labels.prevalence import prevalence_key
from simclr_rhd.data.labels.vocabulary import target_name
from simclr_rhd.inference import classifier
from simclr_rhd.inference.task_output import TaskOutput, resolve_prevalence
from simclr_rhd.ssl.encoder.model import fuse_batchnorm

ImageInput = np.ndarray | Image.Image | str | Path
BATCH_SIZE = 64  # frames at once


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model for n pictures.

    Attributes:
        tasks: {task: its classes, or lesions, and their prevalence}.
        probabilities: {task: (n, C) float64}, calibrated; rows sum to 1, but for lesions.
        novelty: (n,) float64, how far a picture is from those learnt from: above 1 is farther, in one of
            three ways, than 99 % of frames of patients left out; NaN where the model cannot tell.
        embeddings: (n, 960) float32 features of the encoder.
        plain: (n,) bool, whether a picture is near-black or of one colour: it shows nothing.
    """

    tasks: dict[str, TaskOutput]
    probabilities: dict[str, np.ndarray]
    novelty: np.ndarray
    embeddings: np.ndarray
    plain: np.ndarray

    @property
    def classes(self) -> dict[str, list[str]]:
        """{task: names of its C classes, or lesions}."""
        return {task: output.classes for task, output in self.tasks.items()}

    @property
    def multilabel(self) -> frozenset[str]:
        """The tasks of which each lesion is a yes or no of its own."""
        return frozenset(task for task, output in self.tasks.items() if output.multilabel)

    @property
    def prevalence(self) -> dict[str, np.ndarray]:
        """{task: (C,) shares of the classes that the probabilities hold for}."""
        return {task: output.prevalence for task, output in self.tasks.items()}

    def with_prevalence(self) -> Probabilities:
        """The probabilities, and for each task the (n, C) prevalence that they hold for."""
        return self.probabilities | {
            prevalence_key(task): np.tile(prevalence, (len(self.novelty), 1))
            for task, prevalence in self.prevalence.items()
        }

    @property
    def out_of_distribution(self) -> np.ndarray:
        """(n,) bool: pictures unlike those that the model has learnt from; their predictions mean nothing."""
        marks: np.ndarray = (np.nan_to_num(self.novelty) > 1) | self.plain
        return marks

    def predicted(self, task: str) -> list[str]:
        """Name the n predicted classes, see `TaskOutput.predicted`."""
        return self.tasks[task].predicted(self.probabilities[task])

    def confidence(self, task: str) -> np.ndarray:
        """(n,) the probability of what is predicted; of lesions, of the least sure one."""
        return self.tasks[task].confidence(self.probabilities[task])

    def entropy(self, task: str) -> np.ndarray:
        """(n,) in nats, 0 where the model is sure; of lesions, the sum over them."""
        return self.tasks[task].entropy(self.probabilities[task])

    def at_prevalence(self, shares: Mapping[str, float]) -> "Predictions":
        """Return a copy with probabilities for another class prevalence, see `resolve_prevalence`."""
        tasks = resolve_prevalence(self.tasks, shares)
        adjusted = {
            task: self.tasks[task].adjust(p, tasks[task].prevalence) for task, p in self.probabilities.items()
        }
        return replace(self, probabilities=adjusted, tasks=tasks)


class Model:
    """A classifier that a run has written, ready to predict.

    Args:
        path: the run's `model.pt`.
        device: 'auto', 'cpu', 'cuda' or 'mps'.

    Raises:
        UserError: the file is no model of this program and version, or is damaged.
    """

    def __init__(self, path: str | Path, *, device: str = "auto") -> None:
        self.device = resolve_device(device)
        self.net = classifier.load(path)
        self.facts = self.net.facts
        self.net.encoder = fuse_batchnorm(self.net.encoder)
        self.net.encoder.to(self.device)  # the heads are small, and compute in float64, which MPS lacks
        self.tasks = self.net.task_outputs()

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
        parts = [self.predict_squares(np.stack(batch)) for batch in _batches(squares)]
        side = self.facts.stored_side
        return _concatenate(parts or [self.predict_squares(np.zeros((0, 3, side, side), np.uint8))])

    def embed(self, images: Iterable[ImageInput] | ImageInput) -> np.ndarray:
        """(n, 960) float32 features of pictures; arguments and errors as of `predict`."""
        return self.predict(images).embeddings

    @torch.inference_mode()
    def predict_squares(self, squares: np.ndarray) -> Predictions:
        """Classify prepared frames: (n, 3, S, S) uint8, squares of `facts.stored_side` pixels."""
        described = self.net.describe(torch.from_numpy(squares).to(self.device))
        outputs = self.net.classify({name: values.cpu() for name, values in described.items()})
        values = {name: value.cpu().numpy() for name, value in outputs.items()}
        novelty = values["novelty"]
        return Predictions(
            self.tasks,
            {task: values[task] for task in self.classes},
            # a distance that cannot be computed, though the model knows distances, is a far one
            np.where(np.isnan(novelty) & (self.net.novelty is not None), np.inf, novelty),
            values["features"].astype(np.float32),
            np.array([classify_content(square) != OK for square in squares], dtype=bool),
        )

    def abstains(self, task: str, probabilities: np.ndarray, *, level: str) -> np.ndarray | None:
        """(n,) bool: predictions below the confidence threshold, above which few are proved to be wrong.

        Args:
            task: of the predictions.
            probabilities: (n, C), for the model's own prevalence.
            level: 'frame' or 'video', what they are of.

        Returns:
            None where there is no threshold from validation frames.
        """
        output = self.tasks[task]
        if not output.multilabel:
            limit = self._threshold(task, level)
            return None if limit is None else output.confidence(probabilities) < limit
        unsure, known = np.zeros(len(probabilities), dtype=bool), False
        for p, name, prevalence in zip(probabilities.T, output.classes, output.prevalence, strict=True):
            limit = self._threshold(target_name(task, name), level)
            if limit is not None:
                known = True
                unsure |= np.where(p >= prevalence, p, 1 - p) < limit
        return unsure if known else None

    def _threshold(self, target: str, level: str) -> float | None:
        return self.facts.thresholds.get(target, {}).get(level)

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


def _batches(squares: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    while batch := list(islice(squares, BATCH_SIZE)):
        yield batch


def _concatenate(parts: Sequence[Predictions]) -> Predictions:
    first = parts[0]
    return Predictions(
        first.tasks,
        {task: np.concatenate([part.probabilities[task] for part in parts]) for task in first.tasks},
        np.concatenate([part.novelty for part in parts]),
        np.concatenate([part.embeddings for part in parts]),
        np.concatenate([part.plain for part in parts]),
    )
