from pathlib import Path

import pytest
from pictures import epochs, has_no_overlaps, record_figures, size_in_inches

from simclr_rhd.report.charts import style as canvas


def draw(path, *, title="View: loss of the linear head", note=""):
    curves = canvas.LossCurves(epochs(3), "validation")
    canvas.plot_losses(path, title, curves, note=note, footnotes=["Explained."])


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Parasternal Long Axis (PLAX)", "PLAX"),
        ("Parasternal short axis(PSAX)", "PSAX"),
        ("Apical Four Chamber (A4C)", "A4C"),
        ("Parasternal Long Axis (PLAX Colour)", "PLAX Colour"),
        ("Aortic Valve Regurgitation", "AR"),
        ("Mitral Valve Stenosis", "MS"),
        ("mitral valve prolapse", "MVP"),
        ("Mitral Valve Regurgitation", "MR"),
        ("Pulmonary Valve Regurgitation", "PR"),
        ("Tricuspid Regurgitation", "TR"),
        ("Aortic Valve Regurgitation + Pulmonary Valve Regurgitation", "AR + PR"),
        ("Not Applicable", "N/A"),
        ("Borderline RHD", "Borderline RHD"),
        ("Normal (as far as anybody could tell)", "Normal (as far as…"),
        ("_hidden", "hidden"),
    ],
)
def test_short_name(name, short):
    assert canvas.short_name(name) == short


def test_short_names_stay_apart_and_short():
    names = [f"{'the same beginning ' * 3}{number}" for number in range(14)] + [
        "PLAX",
        "Long (PLAX)",
        "PLAX 2",
    ]
    shorts = canvas.short_names(names)
    assert len(set(shorts)) == len(names)
    assert max(map(len, shorts)) <= canvas.MAX_LABEL_CHARS
    assert canvas.short_names(["PLAX", "PSAX"]) == ["PLAX", "PSAX"]


def test_the_note_is_in_the_picture_and_makes_room_for_itself(tmp_path):
    for name, note in (("bare", ""), ("noted", "LEAKY frame split"), ("other", "SYNTHETIC demo data")):
        draw(tmp_path / f"{name}.png", note=note)
    assert size_in_inches(tmp_path / "bare.png") == (8.5, 5.7)
    assert size_in_inches(tmp_path / "noted.png") == (8.5, 5.9)
    assert (tmp_path / "noted.png").read_bytes() != (tmp_path / "other.png").read_bytes()


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.3, "<1"), (1, "1"), (99.7, ">99"), (100, "100")])
def test_per_cent_hides_nothing(value, text):
    assert canvas.whole_percent(value) == text


def test_nothing_is_left_of_a_picture_that_fails(tmp_path, monkeypatch):
    path = tmp_path / "c.png"
    path.write_bytes(b"the old one")

    def write_half(self, target, **_):
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", write_half)
    with pytest.raises(OSError, match="disk full"):
        draw(path)
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw(tmp_path / "h.png")
    assert dict(matplotlib.rcParams) == before


def test_a_long_title_goes_over_several_lines(tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    draw(tmp_path / "long.png", title="A title of many words that " * 5, note="SYNTHETIC demo data")
    assert figures[0].texts[0].get_text().count("\n") == 1
    assert has_no_overlaps(figures[0])
    draw(tmp_path / "short.png", note="SYNTHETIC demo data")
    long, short = (size_in_inches(tmp_path / f"{name}.png")[1] for name in ("long", "short"))
    assert 0.1 < long - short < 0.4
