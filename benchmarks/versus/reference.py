"""The published implementation's recipe, written anew: its data path, its views, its optimiser, its heads.

Every frame is read and decoded each time it is wanted, each view is made by itself on PIL images, the frozen
encoder runs again in every epoch of every head, validation and test are augmented like training, and the last
epoch's head is the "best". Kinder than published: files are on this disk and not behind a network, and the
padding is relative to a frame's size (its pixel counts are made for 640 x 480). Less kind: random weights and
not ImageNet's, as for all competitors, and no early stopping, so that all do the same number of epochs.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

TEMPERATURE = 0.5
PRETRAINING_RATE, HEAD_RATE = 3e-4, 1e-3
BATCH, HEAD_BATCH = 64, 32
WORKERS = 2
PAD = (40 / 640, 60 / 480, 550 / 640, 400 / 480)  # left, top, right, bottom, of a frame's width or height
SEED = 42


def views(size: int) -> Callable[[Image.Image], Tensor]:
    """The one chain of training, validation and test; written for 224 pixels, scaled to `size`."""

    def pad(image: Image.Image) -> Image.Image:
        sides = [round(share * length) for share, length in zip(PAD, image.size * 2, strict=True)]
        return T.functional.pad(image, sides)

    return T.Compose(
        [
            pad,
            T.Resize(round(size * 256 / 224)),
            T.RandomResizedCrop(size),
            T.RandomHorizontalFlip(),
            T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            T.RandomGrayscale(0.2),
            T.GaussianBlur(max(3, round(9 * size / 224) // 2 * 2 + 1)),
            T.ToTensor(),
            T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )


class Frames(Dataset):
    """Files, decoded at every access.

    Args:
        files: paths of frames.
        transform: image -> tensor.
        n_views: how many of it.
        labels: class indices, if any.
    """

    def __init__(
        self,
        files: Sequence[Path],
        transform: Callable[[Image.Image], Tensor],
        n_views: int,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.files, self.transform, self.n_views, self.labels = files, transform, n_views, labels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple:
        image = Image.open(self.files[number]).convert("RGB")
        made = tuple(self.transform(image) for _ in range(self.n_views))
        return made if self.labels is None else (*made, self.labels[number])


class SimCLR(nn.Module):
    """ResNet-18 and a projector 512-512-128."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torchvision.models.resnet18(weights=None)
        self.encoder.fc = nn.Identity()
        self.projector = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))

    def forward(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))


def nt_xent(z0: Tensor, z1: Tensor) -> Tensor:
    """The contrastive loss over a batch."""
    z = nn.functional.normalize(torch.cat([z0, z1]), dim=1)
    logits = (z @ z.T / TEMPERATURE).masked_fill(torch.eye(len(z), dtype=torch.bool), -9e15)
    n = len(z0)
    return nn.functional.cross_entropy(logits, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))


class Pretraining:
    """A pretraining run, one epoch at a time.

    Args:
        files: the unlabelled frames.
        size: pixels of a view's side.
        seed: of everything.
        epochs: not used: its learning rate is constant.
    """

    def __init__(self, files: Sequence[Path], *, size: int, seed: int, epochs: int) -> None:
        torch.manual_seed(seed)
        self.model = SimCLR()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=PRETRAINING_RATE)
        self.loader = DataLoader(
            Frames(files, views(size), 2), BATCH, shuffle=True, drop_last=True, num_workers=WORKERS
        )
        self.encoder = self.model.encoder
        self.frames_of_epoch = len(self.loader) * BATCH
        self.reads = 0

    def epoch(self) -> float:
        """Train one epoch; its mean loss."""
        self.model.train()
        total = 0.0
        for x0, x1 in self.loader:
            self.optimizer.zero_grad()
            loss = nt_xent(self.model(x0), self.model(x1))
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        self.reads += len(self.loader.dataset)
        return total / len(self.loader)


class Head:
    """A linear head of one task on the frozen encoder, which runs again on every frame in every epoch."""

    def __init__(self, encoder: nn.Module, n_classes: int, *, first: bool) -> None:
        self.encoder, self.first = encoder, first
        self.linear = nn.Linear(512, n_classes)
        self.optimizer = torch.optim.Adam(self.linear.parameters(), lr=HEAD_RATE)
        self.reads = 0

    def _pass(self, loader: DataLoader, *, train: bool) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        losses, predicted, true, seen = [], [], [], []
        # the first head's encoder is left in training mode, as published: BatchNorm's statistics drift
        self.encoder.train(self.first and train)
        for x, y in loader:
            with torch.no_grad():
                features = self.encoder(x)
            logits = self.linear(features)
            loss = nn.functional.cross_entropy(logits, y)
            if train:
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            losses.append(loss.item())
            predicted.append(logits.argmax(dim=1).numpy())
            true.append(y.numpy())
            seen.append(features.numpy())
        self.reads += len(loader.dataset)
        return float(np.mean(losses)), np.concatenate(predicted), np.concatenate(true), np.concatenate(seen)

    def fit(self, train: DataLoader, val: DataLoader, epochs: int) -> list[tuple[float, float]]:
        """The losses of training and validation by epoch."""
        history = []
        for _ in range(epochs):
            loss = self._pass(train, train=True)[0]
            with torch.no_grad():
                history.append((loss, self._pass(val, train=False)[0]))
        return history

    @torch.no_grad()
    def test(self, loader: DataLoader) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predictions, labels and features."""
        return self._pass(loader, train=False)[1:]


def split_frames(n: int, groups: np.ndarray, *, by: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """70 / 15 / 15 of the frames, as published, or of the patients; rows to train, choose and test on."""
    units = np.arange(n) if by == "frame" else groups
    names = np.random.default_rng(SEED).permutation(np.unique(units))
    first, second = round(0.7 * len(names)), round(0.85 * len(names))
    parts = names[:first], names[first:second], names[second:]
    train, val, test = (np.flatnonzero(np.isin(units, part)) for part in parts)
    return train, val, test


def heads(
    encoder: nn.Module,
    tasks: dict[str, tuple[list[Path], np.ndarray, np.ndarray]],
    *,
    size: int,
    epochs: int,
    by: str,
) -> dict[str, dict]:
    """Three heads one after the other, and their test accuracy, as it would be reported.

    Args:
        encoder: pretrained.
        tasks: {task: files, class indices, patients}.
        size: pixels of a view's side.
        epochs: of each head.
        by: 'frame' or 'patient'.
    """
    results = {}
    for number, (task, (files, true, groups)) in enumerate(tasks.items()):
        start = time.perf_counter()

        def load(rows: np.ndarray, shuffle: bool, files=files, true=true) -> DataLoader:
            some = Frames([files[row] for row in rows], views(size), 1, [int(true[row]) for row in rows])
            return DataLoader(some, HEAD_BATCH, shuffle=shuffle, num_workers=WORKERS)

        train, val, test = split_frames(len(true), groups, by=by)
        head = Head(encoder, int(true.max()) + 1, first=number == 0)
        history = head.fit(load(train, True), load(val, False), epochs)
        predicted, known, features = head.test(load(test, False))
        results[task] = {
            "seconds": time.perf_counter() - start,
            "accuracy": float((predicted == known).mean()),
            "history": history,
            "reads": head.reads,
            "answers": (predicted, known, features),
        }
    return results


def figures(results: dict[str, dict], losses: list[float], folder: Path) -> None:
    """Loss curves, confusion matrices, t-SNE and UMAP of the test features."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn
    import umap
    from sklearn.manifold import TSNE
    from sklearn.metrics import confusion_matrix

    def draw(name: str, plot: Callable[[plt.Axes], object]) -> None:
        figure, axes = plt.subplots()
        plot(axes)
        figure.savefig(folder / f"{name}.png", dpi=150)
        plt.close(figure)

    draw("simclr_loss", lambda axes: axes.plot(losses))
    for task, one in results.items():
        predicted, true, features = one["answers"]
        draw(f"{task}_loss", lambda axes, one=one: axes.plot(one["history"]))
        matrix = confusion_matrix(true, predicted)
        draw(f"{task}_confusion", lambda axes, m=matrix: seaborn.heatmap(m, annot=True, fmt="d", ax=axes))
        few = max(2, min(30, len(features) // 4))
        for kind, method in (
            ("tsne", TSNE(perplexity=few, random_state=SEED)),
            ("umap", umap.UMAP(random_state=SEED)),
        ):
            points = method.fit_transform(features)
            draw(f"{task}_{kind}", lambda axes, p=points, t=true: axes.scatter(p[:, 0], p[:, 1], c=t, s=8))


def end_to_end(
    unlabelled: list[Path],
    tasks: dict[str, tuple[list[Path], np.ndarray, np.ndarray]],
    folder: Path,
    *,
    size: int,
    epochs: int,
    linear_epochs: int,
) -> dict:
    """The whole work once, with the published split over frames; seconds of each stage."""
    start = time.perf_counter()
    run = Pretraining(unlabelled, size=size, seed=SEED, epochs=epochs)
    losses = [run.epoch() for _ in range(epochs)]
    pretrained = time.perf_counter()
    results = heads(run.encoder, tasks, size=size, epochs=linear_epochs, by="frame")
    classified = time.perf_counter()
    figures(results, losses, folder)
    ended = time.perf_counter()
    torch.save(run.encoder.state_dict(), folder / "encoder.pt")
    return {
        "pretraining": pretrained - start,
        "heads": classified - pretrained,
        "figures": ended - classified,
        "reads": run.reads + sum(one["reads"] for one in results.values()),
        "accuracy": {task: one["accuracy"] for task, one in results.items()},
    }
