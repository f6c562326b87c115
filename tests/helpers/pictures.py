"""Shared parts of the tests of pictures: records to draw, and a look at what was drawn."""

from PIL import Image

from simclr_rhd.report.charts import style as canvas

CONDITIONS = [
    "Not Applicable",
    "Aortic Valve Regurgitation",
    "Mitral Valve Prolapse",
    "Mitral Valve Regurgitation",
    "Aortic Valve Regurgitation + Pulmonary Valve Regurgitation",
]
AWKWARD = [r"_an $\frac name that is far too long for any tick of any axis", "心", "<b>", "a", "a "]


def epochs(n, **changes):
    record = {"loss": 4.0, "val_loss": 3.9, "uniform": 4.8, "val_uniform": 4.6, "learning_rate": 1e-3}
    return [record | {"epoch": number + 1, "best": number == 0} | changes for number in range(n)]


def record_figures(monkeypatch):
    """The figures drawn from here on, as they were when they were saved."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig

    def keep(figure, *arguments, **keywords):
        figures.append(figure)
        return save(figure, *arguments, **keywords)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def legend_labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def footnote_text(figure):
    return figure.texts[-1].get_text()


def size_in_inches(path):
    with Image.open(path) as image:
        image.load()
        assert not {"Software", "date:create"} & set(image.info)
        return tuple(round(side / canvas.DPI, 1) for side in image.size)


def has_no_overlaps(figure):
    """Whether all panels and texts of a page are on it, none on another."""
    parts = [axes.get_tightbbox() for axes in figure.axes if axes.axison]
    parts += [text.get_window_extent() for text in figure.texts]
    inside = all(
        figure.bbox.x0 <= part.x0
        and part.x1 <= figure.bbox.x1
        and figure.bbox.y0 <= part.y0
        and part.y1 <= figure.bbox.y1
        for part in parts
    )
    return inside and not any(
        part.overlaps(other) for number, part in enumerate(parts) for other in parts[number + 1 :]
    )


def is_reproducible(draw, folder):
    draw(folder / "one.png")
    draw(folder / "two.png")
    same = (folder / "one.png").read_bytes() == (folder / "two.png").read_bytes()
    return same and sorted(path.name for path in folder.iterdir()) == ["one.png", "two.png"]
