"""The page of `predict --html`: what it says, and that no file, class or patient can write on it."""

import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from echo_files import encode_image
from exam_files import predict_page, write_exams
from random_model import with_heads_on_the_last_stage, write_model

import main
from simclr_rhd.runs import checkpoint

HOSTILE = "<img src=x onerror=alert(1)>"
pytestmark = pytest.mark.usefixtures("small_network")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.pt", scaled=True)


class Outline(HTMLParser):
    """Levels of the headings, images, and attributes that could fetch something."""

    def __init__(self, text):
        super().__init__()
        self.levels, self.images, self.addresses, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "img":
            self.images.append(values)
        self.addresses += [values[name] for name in ("src", "href", "srcset", "data") if values.get(name)]


def read(top):
    return (top / "out.html").read_text(encoding="utf-8")


def test_each_patient_has_a_section_with_frames_bars_and_marks(tmp_path, model):
    table = write_exams(tmp_path / "data", {"Ann": 2, "Bob": 1, "": 1})
    assert predict_page(tmp_path, model=model, patients_csv=table) == 0
    page = read(tmp_path)
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", page)))
    titles = re.findall(r'<h2 id="exam-\d+">(.*?)</h2>', page.replace("<wbr>", ""))
    assert titles == ["Patient Ann", "Patient Bob", "Video v2-0"]
    assert "8 frames of 2 videos." in text and "Line: the lowest to the highest mean of its 2 videos" in text
    assert "4 frames of 1 video." in text and "Line: the middle 80 % of its 4 frames" in text
    assert "not accepted" in text and "with 90% confidence at most 10% of a patient's" in text
    assert "MR 0.2, AR 0.6" in text, "the prevalence that the probabilities hold for"
    assert str(tmp_path) not in page, "no folder of this machine"
    outline = Outline(page)
    assert outline.levels[0] == 1 and outline.levels.count(1) == 1
    assert max(np.diff(outline.levels)) <= 1, "no level is left out"
    assert all(image["alt"] for image in outline.images)
    # at most three frames a task, then the first of them twice, without and with its map
    assert 3 * 2 * 3 <= len(outline.images) <= 3 * 2 * 5
    assert page.count("Such maps have misled readers.") == page.count("<details>") == 3 * 2
    assert (tmp_path / "out.html").stat().st_mode & 0o077 == 0


def test_nothing_is_fetched_and_no_script_is_on_the_page(tmp_path, model):
    write_exams(tmp_path / "data", {"": 2})
    assert predict_page(tmp_path, model=model) == 0
    outline = Outline(read(tmp_path))
    assert all(address.startswith(("data:image/", "#")) for address in outline.addresses)
    assert not {"script", "link", "iframe", "object"} & set(outline.tags)
    assert "default-src 'none'" in read(tmp_path) and "url(" not in read(tmp_path)


def test_names_of_files_and_patients_are_escaped(tmp_path, model):
    name = HOSTILE + " {patient}-{video}_frame{frame}.png"
    table = write_exams(tmp_path / "data", {f"{HOSTILE}Ann": 1, "": 1}, name=name)
    assert predict_page(tmp_path, model=model, patients_csv=table) == 0
    page = read(tmp_path)
    assert "<img src=x" not in page and "&lt;img src=x onerror=alert(1)&gt;" in page.replace("<wbr>", "")
    assert all("onerror" not in image for image in Outline(page).images)


def test_an_exam_unlike_the_training_frames_is_marked_never_accepted_and_has_no_map(tmp_path):
    accept_all = dict.fromkeys(("view", "condition: MR"), {"frame": 0.0, "video": 0.0})
    model = write_model(tmp_path / "model.pt", thresholds=accept_all)
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat.png").write_bytes(encode_image(noise))
    assert predict_page(tmp_path, model=model) == 0
    page = read(tmp_path)
    assert "the predictions for this exam mean nothing" in page and "Frames so marked: 1 of 1." in page
    assert "<details>" not in page and "One frame, so no spread" in page
    assert page.count("not to be believed: unlike the training frames") == 2 and "accepted:" not in page
    write_exams(tmp_path / "data", {"": 1})
    assert predict_page(tmp_path, model=model) == 0
    assert read(tmp_path).count("<strong>accepted: sure enough") == 2, "of the other exam"


def test_what_is_not_known_of_a_model_is_told(tmp_path):
    write_exams(tmp_path / "data", {"": 1})
    why = "5 validation groups are too few"
    path = write_model(
        tmp_path / "model.pt",
        novelty=False,
        synthetic=True,
        thresholds={"condition: MR": {"frame": 2.0, "video": 2.0}},
        unproved={"condition: MR": {"frame": why, "video": why}},
    )
    assert predict_page(tmp_path, model=path) == 0
    page = read(tmp_path)
    assert "This model cannot tell whether frames are like those that it learnt from" in page
    assert (
        "no limit known" in page
        and f"condition: MR: nothing is proved, so that no prediction is accepted: {why}" in page
    )
    assert "SYNTHETIC" in page and "has never seen a heart" in page


def test_more_exams_than_the_page_has_are_counted(tmp_path, model, monkeypatch):
    monkeypatch.setattr("simclr_rhd.inference.prediction.exams.MAX_EXAMS", 2)
    write_exams(tmp_path / "data", {"": 5}, frames=1)
    assert predict_page(tmp_path, model=model) == 0
    page = read(tmp_path)
    assert "3 exams more" in page and page.count('<section class="exam"') == 2
    assert "v0-4" in (tmp_path / "out.videos.csv").read_text()


def test_the_mistakes_of_a_user_are_known_before_the_work(tmp_path, model, capsys):
    write_exams(tmp_path / "data", {"": 1}, frames=1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    (tmp_path / "folder.html").mkdir()
    for name, message in (
        ("page.pdf", "wanted a file whose name ends in .html"),
        ("folder.html", "is a folder; wanted a file"),
        ("run/report.html", "is the report of a run; name another file"),
    ):
        words = [str(tmp_path / "data"), "--model", str(model), "--out", str(tmp_path / "out.csv")]
        assert main.main(["predict", *words, "--html", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "out.csv").exists()


def test_without_anything_classified_there_is_no_page(tmp_path, model):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "broken.png").write_bytes(b"no picture")
    assert predict_page(tmp_path, model=model) == 2
    assert not (tmp_path / "out.html").exists()


@pytest.mark.parametrize(("version", "proved"), [(3, False), (4, True), (5, True)])
def test_of_older_models_the_oldest_alone_proves_nothing(tmp_path, model, version, proved):
    saved = checkpoint.load(model)
    saved = with_heads_on_the_last_stage(saved) if version < 5 else saved
    if version == 3:
        saved["heads"] = {
            name: of for name, of in saved["heads"].items() if name not in ("bias", "prevalence")
        }
    checkpoint.save(tmp_path / "old.pt", saved | {"version": version})
    write_exams(tmp_path / "data", {"Ann": 1})
    assert predict_page(tmp_path, model=tmp_path / "old.pt") == 0
    page = read(tmp_path)
    assert ("prove nothing" in page) is not proved
    assert ("This is proved for single videos" in page) is proved
