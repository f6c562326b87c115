import copy
import json
import re
import stat
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError
from results import HOSTILE, RUN, metrics, results, scores, task_result
from untrained_run import FakeEmbeddingWorker, evaluate_run, make_dataset

from simclr_rhd.core.errors import UserError
from simclr_rhd.evaluation.results import TargetResult
from simclr_rhd.report.build import DRAWING_MAPS_S
from simclr_rhd.report.page import page as report
from simclr_rhd.report.page.embedding_map import MapsMissing
from simclr_rhd.runs.time_limit import TimeLimit

# What a file, a class, a label or a reason may be called, for harm or by accident.
NASTY = [
    HOSTILE,
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</script><script>alert(1)</script>",
    "<!-- comment",
    "]]>",
    "{{ 7 * 7 }}",
    "{% raise %}",
    "${alert(1)}",
    "javascript:alert(1)",
    "<iframe src=//x>",
    "<style>*{display:none}</style>",
    "<base href=//x>",
    "&lt;b&gt;",
    "\\u003cb>",
    "</title><b>",
    "<math><mtext></mtext>",
    "data:text/html,<script>",
    "\u202egnp.exe",
    "<a href=x>",
]


class Page(HTMLParser):
    """Tags with their attributes, and the text; fails on a tag that is closed but not open."""

    VOID = ("meta", "img", "br", "wbr", "path")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def write(tmp_path, found, **changes):
    listed = changes.get("rejected", [])
    rejected = report.RejectedFiles(listed, changes.get("n_rejected", len(listed)))
    report.write_report_page(
        tmp_path / "report.html", results(found), changes.get("run", RUN), rejected=rejected
    )
    return (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The report of a run whose files, classes and reasons all have nasty names."""
    folder = tmp_path_factory.mktemp("run")
    names = iter(name.replace("/", "|") for name in NASTY)  # a file's name has no slash
    classes = {
        "view": [next(names) for _ in range(3)],
        "condition": [next(names) for _ in range(6)],
        "severity": [next(names) for _ in range(4)],
    }
    rejected = [(f"labelled/{name}_p3_frame1.png", f"cannot be read: {name}") for name in names]
    dataset = make_dataset(classes, prefix=HOSTILE.replace("/", "|"), rejected=rejected)
    with pytest.MonkeyPatch.context() as patch:
        assert evaluate_run(dataset, folder, patch) == 0
    return (folder / "report.html").read_text(encoding="utf-8"), folder


def test_nasty_names_are_text(whole):
    text, folder = whole
    page = Page(text)
    ours = page.all("script")
    assert [script.get("type") for script in ours] == ["application/json", None]
    assert not {"iframe", "object", "embed", "base", "link", "form", "math"} & {tag for tag, _ in page.tags}
    handlers = [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert handlers == []
    shown = page.text + " ".join(image["alt"] for image in page.all("img"))
    for name in NASTY:
        assert " ".join(name.replace("/", "|").split()) in " ".join(shown.split()), name
    assert "7 * 7" in shown and "{{ 49 }}" not in shown


def test_the_maps_survive_nasty_names(whole):
    (data,) = re.findall(
        r'<script type="application/json" id="embedding-viewer">(.*?)</script>', whole[0], re.DOTALL
    )
    viewer = json.loads(data)
    assert "<" not in data and HOSTILE.replace("/", "|") in viewer["names"][0]
    assert json.loads((whole[1] / "run.json").read_text())["maps_missing"] is None
    n = len(viewer["names"])
    assert {len(points) for points in viewer["methods"].values()} == {n} and list(viewer["methods"])[
        0
    ] == "t-SNE"
    for of in viewer["targets"].values():
        assert len(of["true"]) == len(of["predicted"]) == len(of["p"]) == n
        tested = [part == "test" for part in viewer["parts"]]
        assert tested == [number >= 0 for number in of["predicted"]], (
            "predictions are of tested frames, and of all of them"
        )


def test_no_patient_is_named(whole):
    """The identifiers are p0 to p29; each stands in the names of its patient's files."""
    shown = re.sub(r"data:image/[^\"]*", "", whole[0])
    found = re.findall(r"(?<![A-Za-z0-9])p[0-9]+(?![A-Za-z0-9])", shown)
    assert found == []
    assert re.search(r"_\[patient [0-9]+\]-labelled_", shown) and "[patient 4]_frame1.png" in shown


def test_all_that_was_promised_is_there(whole):
    page = Page(whole[0])
    order = [attributes["id"] for attributes in page.all("h2")]
    assert order == ["results", "data", "pretraining", "view", "condition", "severity", "failures", "run"]
    alts = [image["alt"] for image in page.all("img")]
    for start, least in {
        "Contrastive loss": 1,
        "Alignment": 1,
        "Uniformity": 1,
        "Effective rank": 1,
        "kNN": 1,
        "Loss of the linear head": 3,
        "ROC per video": 3,
        "Precision and recall per video": 3,
        "Reliability, uncalibrated": 3,
        "Reliability, calibrated": 3,
        "A random view of it": 16,
        "A frame of": 13,
        "An error": 3,
        "A doubtful frame": 3,
        "The same with what speaks for": 3,
        "Tested, [patient ": 1,
        "Of another part, [patient ": 1,
        "t-SNE map": 3,
        "UMAP map": 3,
    }.items():
        assert sum(alt.startswith(start) for alt in alts) >= least, start
    matrices = [table["aria-label"] for table in page.all("table") if "aria-label" in table]
    assert len(matrices) == 12  # of three tasks, per frame and per video, counts and per cent
    assert len(whole[0]) < 8e6


def test_the_only_script_is_the_one_that_the_policy_allows(whole):
    import base64
    import hashlib

    page = Page(whole[0])
    (policy,) = (
        meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    )
    (code,) = re.findall(r"<script>(.*?)</script>", whole[0], re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")


def test_a_page_without_figures_has_all_figures_in_words(tmp_path):
    text = write(tmp_path, metrics(view=task_result(0.9, 0.8, low=0.7), condition=task_result(None, None)))
    page = Page(text)
    assert page.all("img") == [] and page.all("script") == [] and "script-src 'none'" in text
    assert not re.search(r"https?://|url\(|@import", text)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    for shown in ("0.90 [0.70, 1.00]", "pretraining", "12.5", "61", "62", "Definite RHD", "--no-figures"):
        assert shown in page.text
    assert "None:" in page.text and not re.search(r"None[^:]|nan|said above", page.text)


def test_nasty_runs_and_classes_are_text_without_figures_too(tmp_path):
    found = metrics(view=task_result(0.9, 0.8, classes=(HOSTILE, "b"), not_evaluable=[HOSTILE]))
    text = write(tmp_path, found, rejected=[(HOSTILE, HOSTILE)])
    assert "<script" not in text.lower()
    assert Page(text).text.count(HOSTILE) >= 6


def test_warnings_come_first_and_what_is_left_out_is_named(tmp_path):
    classes = [f"Aortic Valve Regurgitation of the sort {number}" for number in range(14)]
    found = metrics(
        view={"classes": ["A4C"], "not_evaluable": [], "skipped": "one class in training"},
        condition=task_result(0.9, 0.8, classes=classes, not_evaluable=classes[2:]),
    )
    found["synthetic"] = found["split"]["leaky"] = True
    page = Page(write(tmp_path, found)).text
    assert page.index("Research use only") < page.index("SYNTHETIC") < page.index("LEAKY")
    assert page.index("LEAKY") < page.index("What is good") < page.index("one class in training")
    assert all(name in page for name in classes[2:]) and "one group only" in page


def test_what_was_asked_for_stands_beside_the_heads(tmp_path):
    found = metrics(view=task_result(0.6, 0.5, low=0.55))
    of_view = found["tasks"]["view"]
    of_view["leak"] = {"leaky": True, "frame": scores(0.97, ("a", "b"))}
    of_view["finetuned"] = {
        "test": of_view["test"],
        "margin": dict.fromkeys(("frame", "video", "patient"), of_view["margins"]["pixels"]["video"]),
        "epochs_kept": [0],
    }
    page = " ".join(Page(write(tmp_path, found)).text.split())
    assert "LEAKY: the same heads under a split over frames" in page and "0.97" in page
    assert "fine-tuned" in page and "+0.10 [+0.05, +0.50] over the linear head" in page


def test_what_readers_agree_on_stands_beside_the_model(tmp_path):
    found = metrics(view=task_result(0.6, 0.5), condition=task_result(0.7, 0.5))
    found["tasks"]["view"]["readers"] = {"pairs": 1, "files": 31, "kappa": 0.82} | dict.fromkeys(
        ("lowest", "highest"), 0.82
    )
    page = " ".join(Page(write(tmp_path, found)).text.split())
    assert "Cohen's kappa 0.82 on 31 files that both have read. This program with the labels: 0.60" in page
    assert page.count("What two readers agree on") == 1
    found["tasks"]["view"]["readers"] |= {"pairs": 3, "lowest": 0.7, "highest": 0.9}
    assert "0.82 (0.70 to 0.90), the mean of 3 pairs" in " ".join(Page(write(tmp_path, found)).text.split())


def test_pairs_that_look_nearly_identical_are_an_alarm(tmp_path):
    found = metrics(view=task_result(0.9, 0.8))
    assert "nearly identical to a frame" in Page(write(tmp_path, found)).text
    found["audit"]["near_identical"]["found"] = 3
    assert "3 pairs of frames in different parts look nearly identical" in Page(write(tmp_path, found)).text


def test_more_rejected_files_than_are_listed_are_counted(tmp_path):
    rejected = [(f"f{number}.png", "truncated") for number in range(51)]
    page = " ".join(
        Page(
            write(tmp_path, metrics(view=task_result(0.9, 0.8)), rejected=rejected[:50], n_rejected=51)
        ).text.split()
    )
    assert "51 files could not be used, of which the first 50" in page
    assert "f49.png" in page and "f50.png" not in page


def test_html_leaves_its_arguments_alone_and_is_written_whole(tmp_path):
    found = metrics(view=task_result(0.9, 0.8))
    before, run = copy.deepcopy(found), copy.deepcopy(RUN)
    old = write(tmp_path, found)
    assert found == before and run == RUN
    with pytest.raises(UndefinedError):
        write(tmp_path, found, run={"config": {}})
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == old
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_matrix_has_shares_of_its_rows_and_none_of_an_empty_one():
    found = report.confusion_table(["a", "b"], [[3, 1], [0, 0]])
    assert [row["total"] for row in found["rows"]] == [4, 0] and not found["none"]
    shares = [[cell["share"] for cell in row["cells"]] for row in found["rows"]]
    assert shares == [[0.75, 0.25], [None, None]]


def mistake(result):
    return report.most_frequent_mistake(TargetResult.from_json(result), "video")


def test_the_most_frequent_mistake_is_told_and_none_where_there_is_none():
    result = task_result(0.7, 0.6, classes=["a", "b"])
    result["test"]["video"]["confusion"] = [[15, 3], [1, 4]]
    assert mistake(result) == "a predicted as b, 3 of 18 videos"
    result["test"]["video"]["confusion"] = [[15, 0], [0, 4]]
    assert mistake(result) == ""
    result["test"]["frame"]["confusion"] = [[15, 3], [1, 4]]
    assert report.count_errors(TargetResult.from_json(result)) == (4, 23)


def test_classes_that_do_not_count_are_no_mistakes():
    result = task_result(0.7, 0.6, classes=["a", "b", "c"], not_evaluable=["c"])
    counts = [[15, 3, 0], [1, 4, 0], [9, 0, 0]]
    result["test"]["video"]["confusion"] = result["test"]["frame"]["confusion"] = counts
    assert mistake(result) == "a predicted as b, 3 of 18 videos"
    assert report.count_errors(TargetResult.from_json(result)) == (4, 23)


class LostMaps(FakeEmbeddingWorker):
    def maps(self, timeout_s=None):
        raise MapsMissing(f"after {timeout_s} s")


def test_a_report_whose_maps_were_lost_has_all_else(tmp_path, monkeypatch):
    monkeypatch.setattr("simclr_rhd.core.logs.elapsed", lambda: 90.0)
    dataset, limit = (
        make_dataset({"view": ["A4C", "PLAX"], "condition": [], "severity": []}),
        TimeLimit(2, 9, {}),
    )
    assert evaluate_run(dataset, tmp_path, monkeypatch, projection=LostMaps, limit=limit) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "There are no maps" in text and "ROC per video" in text
    assert not list(tmp_path.glob("umap_*")) and list(tmp_path.glob("confusion_matrix_*"))
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["maps_missing"] == f"after {30 - DRAWING_MAPS_S} s" and record["maps_missing"] in text


@pytest.mark.slow
def test_maps_that_were_lost_are_recorded_without_a_limit_and_stop_a_rehearsal(tmp_path, monkeypatch):
    dataset = make_dataset({"view": ["A4C", "PLAX"], "condition": [], "severity": []})
    assert evaluate_run(dataset, tmp_path / "unlimited", monkeypatch, projection=LostMaps) == 0
    record = json.loads((tmp_path / "unlimited" / "run.json").read_text())
    assert record["maps_missing"] == "after None s"
    with pytest.raises(UserError, match="after None s; --no-figures leaves the pictures out"):
        evaluate_run(dataset, tmp_path / "rehearsal", monkeypatch, projection=LostMaps, is_rehearsal=True)


def test_the_page_says_how_many_differences_hold_together(tmp_path):
    result = task_result(0.9, 0.8, low=0.7) | {"comparisons": 5, "draws": {"random encoder": 3}}
    text = " ".join(Page(write(tmp_path, metrics(view=result))).text.split())
    assert "The intervals of the 5 differences of this task hold together with 95 % (Bonferroni)." in text
    assert "The untrained encoder is the mean of 3 draws." in text


def test_no_place_outside_the_data_is_told(tmp_path):
    data, home = tmp_path / "Dr Smith" / "echo", tmp_path / "Jones"
    config = {"data": f"{data}/", "save_dir": f"{home}/run", "cache_dir": "~/Miller", "init": "../Lee/w.pt"}
    config |= {"image_size": 64, "labelled_prefix": "inside/frames", "precision": "float32"}
    argv = ["--data", f"{data}/", f"--save-dir={home}/run", "--init", "../Lee/w.pt", "--x", "/etc/Brown/t"]
    run = RUN | {"config": config, "argv": argv, "data": {"location": str(data)}, "x": f"of {data}/a.png"}
    report.write_report_page(tmp_path / "report.html", results(metrics()), run)
    text = (tmp_path / "report.html").read_text()
    for name in ("Smith", "echo/", "Jones", "Miller", "Lee", "Brown", str(tmp_path)):
        assert name not in text, name
    assert "inside/frames" in text and "[--data]/a.png" in text and "[--save-dir]" in text


def test_files_left_out_do_not_name_a_patient(tmp_path, monkeypatch):
    names = {task: ["a", "b"] for task in ("view", "condition", "severity")}
    lost = "could not be fetched: no /srv/Smith/p12/p7.dcm"
    rejected = [("labelled/xp12_frame1.png", "damaged"), ("p3.png", "empty file"), ("a.dcm", lost)]
    dataset = make_dataset(names, rejected=rejected)
    assert evaluate_run(dataset, tmp_path / "run", monkeypatch, "--no-figures") == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "p12" not in page and "p3.png" not in page and "x[patient 13]_frame1.png" in page
    assert stat.S_IMODE((tmp_path / "run" / "metrics.json").stat().st_mode) == 0o600, "it names groups"
    assert "p7" not in page and "Smith" not in page and "no [patient 8].dcm" in page
