"""The report as a reader sees it: headless Chromium, opened from disk, without a network."""

import json
import re
import shutil
from itertools import combinations

import numpy as np
import pytest
from exam_files import predict_page, write_exams
from random_model import write_model
from small_simclr import small_networks
from untrained_run import evaluate_run, make_dataset

from simclr_rhd.evaluation.results import RunResults
from simclr_rhd.report.page.page import RejectedFiles, write_report_page

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is missing: pip install -r requirements-dev.txt"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: chromium)")

PHONE, DESK, PAPER = 390, 1440, 688  # pixels of width; of A4 between its margins
LONG = [
    f"{where} {what} of the {number} degree, seen from the apex and from the parasternal window"
    for number, (where, what) in enumerate(
        (where, what)
        for where in ("Mitral valve", "Aortic valve", "Tricuspid valve", "Pulmonary valve")
        for what in ("regurgitation", "stenosis", "prolapse")
    )
]
CLASSES = {
    "long": {"view": LONG, "condition": ["Healthy", "MR"], "severity": ["Normal", "x" * 90]},
    "folds": {"view": ["A4C", "PLAX", "PSAX"], "condition": [], "severity": []},
}
# How far apart the colours of two classes are at least, for eyes of any kind (CIE 1976); 2 is just seen.
APART = 12


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """{name: page}: reports of twelve long class names, of folds, and one without figures; and of exams."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, folds, patients in (("long", 1, 60), ("folds", 2, 24)):
            folder = tmp_path_factory.mktemp(name)
            rejected = [(f"{'a-long-name-' * 9}.png", "cannot be read: truncated " * 6)]
            dataset = make_dataset(CLASSES[name], patients=patients, frames=2, folds=folds, rejected=rejected)
            assert evaluate_run(dataset, folder, patch) == 0
            made[name] = folder / "report.html"
    metrics, run = (
        json.loads((made["long"].parent / name).read_text()) for name in ("metrics.json", "run.json")
    )
    made["bare"] = tmp_path_factory.mktemp("bare") / "report.html"
    write_report_page(made["bare"], RunResults.from_json(metrics), run, rejected=RejectedFiles(rejected, 1))
    made["exams"] = make_exam_page(tmp_path_factory.mktemp("exams"))
    return made


def make_exam_page(top):
    """Nine patients with two videos each, and one video without a patient; long names of all kinds."""
    patients = {f"dicom-{number:032x}": 2 for number in range(9)} | {"": 1}
    name = "a-long-name-" * 8 + "{patient}-{video}_frame{frame}.png"
    table = write_exams(top / "data", patients, frames=2, name=name)
    with small_networks(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("random_model.CLASSES", CLASSES["long"])
        assert predict_page(top, model=write_model(top / "model.pt"), patients_csv=table) == 0
    return top / "out.html"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        with playwright.chromium.launch(executable_path=CHROMIUM, args=flags) as running:
            yield running


@pytest.fixture
def visit(browser):
    """Opens a file in a page of its own; what went wrong there must be nothing."""
    contexts, trouble = [], []

    def open_page(path, width=DESK, **how):
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **how)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: _note(trouble, request.url, path))
        page.goto(path.as_uri())
        page.wait_for_load_state()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []


def _note(trouble, url, path):
    if not url.startswith("data:") and url.split("#")[0] != path.as_uri():
        trouble.append(f"asked for {url[:80]}")


@pytest.mark.parametrize("name", ["long", "folds", "bare", "exams"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_sticks_out_and_every_image_is_drawn(reports, visit, name, width):
    page = visit(reports[name], width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).map(i => i.alt)"
    assert page.evaluate(broken) == []
    assert page.locator("img:visible").count() > (0 if name == "bare" else 50) or name == "bare"
    sizes = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => [...e.childNodes].some(n => n.nodeType == 3 && "
        "n.textContent.trim()) && e.checkVisibility() && !e.closest('script'))"
        ".map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 9, "letters too small to read"


@pytest.mark.parametrize("name", ["long", "folds"])
def test_paper_has_all_of_it(reports, visit, name):
    page = visit(reports[name], PAPER)
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER
    cut = (
        "[...document.querySelectorAll('.scroll, .matrices, .panels > *')]"
        ".filter(box => box.checkVisibility() && box.scrollWidth > box.clientWidth + 1)"
        ".map(box => box.textContent.slice(0, 80))"
    )
    assert page.evaluate(cut) == []
    assert page.locator(".map canvas:visible").count() == 0
    assert page.locator(".map img.still:visible").count() == 2 * page.locator(".map").count() > 0
    assert page.pdf(format="A4").startswith(b"%PDF")
    folded = page.locator("details").evaluate_all(
        "all => all.filter(one => !one.open).map(one => one.innerText)"
    )
    assert not any("Failures" in text or "scores" in text for text in folded)
    assert page.locator("details[open]").count() > 5


def test_exams_fit_paper_without_heat_maps(reports, visit):
    page = visit(reports["exams"], PAPER)
    assert page.locator(".pair img:visible").count() == 0, "folded away"
    page.locator("details summary").first.click()
    assert page.locator(".pair img:visible").count() == 2
    assert "misled readers" in page.locator("details[open]").inner_text()
    page.reload()
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER
    cut = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert page.evaluate(cut) == 0
    assert page.locator("details:visible").count() == 0 and page.pdf(format="A4").startswith(b"%PDF")


def points_of(page, box, method):
    """Where a map's marks are on the screen, and the map's data."""
    box.locator("canvas").first.scroll_into_view_if_needed()
    viewer = json.loads(page.locator("#embedding-viewer").text_content())
    at = box.locator(".live > canvas").bounding_box()
    side = at["width"]
    return viewer, [
        (at["x"] + 14 + x / 1000 * (side - 28), at["y"] + 14 + y / 1000 * (side - 28))
        for x, y in viewer["methods"][method]
    ]


def test_a_mark_shows_its_frame(reports, visit):
    page = visit(reports["folds"])
    box = page.locator(".map").first
    assert box.locator(".tip").is_hidden() and box.locator("img.still").first.is_hidden()
    viewer, places = points_of(page, box, "t-SNE")
    view = viewer["targets"]["view"]
    outermost = int(np.argmax([x for x, _ in places]))  # no other mark is nearer to that spot
    page.mouse.move(*places[outermost])
    tip = box.locator(".tip")
    assert tip.is_visible()
    text = tip.inner_text()
    assert viewer["names"][outermost] in text and f"line {viewer['lines'][outermost]}" in text
    assert f"true: {view['classes'][view['true'][outermost]]}" in text
    assert f"predicted: {view['classes'][view['predicted'][outermost]]}" in text
    shown = tip.locator("canvas").evaluate(
        "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " let s = 0; for (let i = 0; i < d.length; i += 4) s += d[i]; return s / (d.length / 4); }"
    )
    expected = page.locator("#sheet").evaluate(
        "(sheet, [point, side, columns]) => { const c = document.createElement('canvas');"
        " c.width = c.height = side; const p = c.getContext('2d'); p.drawImage(sheet, point % columns * side,"
        " Math.floor(point / columns) * side, side, side, 0, 0, side, side);"
        " const d = p.getImageData(0, 0, side, side).data; let s = 0;"
        " for (let i = 0; i < d.length; i += 4) s += d[i]; return s / (d.length / 4); }",
        [outermost, viewer["sheet"]["side"], viewer["sheet"]["columns"]],
    )
    assert shown == pytest.approx(expected, abs=0.5) and shown > 5
    page.mouse.move(2, 2)
    assert tip.is_hidden()


def test_a_map_is_used_by_keys_and_by_touch(reports, visit):
    page = visit(reports["folds"], PHONE, has_touch=True, is_mobile=True)
    box = page.locator(".map").first
    viewer, places = points_of(page, box, "t-SNE")
    page.touchscreen.tap(*places[int(np.argmin([x for x, _ in places]))])
    assert box.locator(".tip").is_visible()
    frame, tip = (box.locator(of).first.bounding_box() for of in (".live", ".tip"))
    assert frame["x"] <= tip["x"] and tip["x"] + tip["width"] <= frame["x"] + frame["width"] + 1
    canvas = box.locator(".live > canvas")
    canvas.press("Escape")
    assert box.locator(".tip").is_hidden()
    canvas.press("ArrowRight")
    first = box.locator(".tip").inner_text()
    canvas.press("ArrowRight")
    assert box.locator(".tip").inner_text() != first
    assert [line.split(":")[0] for line in first.splitlines()[1:]] == ["part", "true", "predicted"]
    assert re.search(r"line [0-9]+, video [0-9]+$", first.splitlines()[0])


def test_a_map_is_coloured_by_class_video_part_and_correctness(reports, visit):
    page = visit(reports["folds"])
    box = page.locator(".map").first
    colour, seen = box.locator("select").nth(1), set()
    options = colour.locator("option").all_inner_texts()
    assert options == ["class", "right or wrong", "video", "part"]
    for option in options:
        colour.select_option(option)
        seen.add(box.locator(".live > canvas").evaluate("canvas => canvas.toDataURL()"))
    colour.select_option("right or wrong")
    assert box.locator(".key li").all_inner_texts() == ["right", "wrong"]  # of folds, all are tested
    box.locator("select").first.select_option("UMAP")
    seen.add(box.locator(".live > canvas").evaluate("canvas => canvas.toDataURL()"))
    assert len(seen) == 5


def test_without_scripts_the_maps_are_pictures(reports, visit):
    page = visit(reports["long"], java_script_enabled=False)
    assert page.locator(".map img.still:visible").count() == 6 and page.locator(".map canvas").count() == 0


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [
        ("long", PHONE, "light"),
        ("folds", DESK, "dark"),
        ("exams", PHONE, "light"),
        pytest.param("long", PHONE, "dark", marks=pytest.mark.slow),
        pytest.param("folds", DESK, "light", marks=pytest.mark.slow),
        pytest.param("exams", PHONE, "dark", marks=pytest.mark.slow),
    ],
)
def test_nothing_serious_stands_in_the_way_of_anybody(reports, visit, name, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    page = visit(reports[name], width, color_scheme=scheme)
    page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
    found = axe.Axe().run(page).response["violations"]
    assert [
        (one["id"], one["nodes"][0]["html"][:200])
        for one in found
        if one["impact"] in ("serious", "critical")
    ] == []


def lab(pixel):
    """CIE 1976 L*a*b* of an sRGB pixel, D65."""
    level = np.asarray(pixel, dtype=float) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.072175],
        [0.0193339, 0.119192, 0.9503041],
    ]
    x, y, z = (
        np.cbrt(t) if t > 0.008856 else 7.787 * t + 16 / 116
        for t in np.array(to_xyz) @ linear / [0.95047, 1, 1.08883]
    )
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("eyes", ["none", "protanopia", "deuteranopia", "tritanopia"])
def test_the_colours_of_classes_differ_for_all_eyes(reports, visit, scheme, eyes):
    import io

    from PIL import Image

    page = visit(reports["bare"], color_scheme=scheme)
    page.evaluate(
        "document.body.innerHTML = [...Array(8).keys()].map(n => `<div style='background: var(--c${n}); "
        "height: 20px'></div>`).join('')"
    )
    page.context.new_cdp_session(page).send("Emulation.setEmulatedVisionDeficiency", {"type": eyes})
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    top = page.locator("div").first.bounding_box()["y"]
    colours = [lab(picture.getpixel((700, int(top + 10 + 20 * number)))) for number in range(8)]
    nearest = min(np.linalg.norm(one - other) for one, other in combinations(colours, 2))
    assert nearest >= APART, f"two of eight colours are {nearest:.1f} apart"
