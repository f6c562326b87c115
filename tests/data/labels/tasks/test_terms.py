import time

import pytest

from simclr_rhd.data.labels.tasks.classes import make_class_parser
from simclr_rhd.data.labels.vocabulary import VOCABULARY, diagnostic_limits, normalize

SPELLINGS = {
    ("severity", "Stage A"): [
        "Stage A",
        "stage-a RHD",
        "WHF A",
        "WHF 2023 stage A",
        "early RHD stage A",
        "RHD, Stage A",
        "Stage A (minimal echo criteria)",
        "rheumatic heart disease stage a",
    ],
    ("severity", "Stage B"): ["STAGE_B", "WHF-2023 B", "Stage B (mild RHD)", "RHD B"],
    ("severity", "Stage C"): ["WHF C", "Advanced RHD stage C", "Stage C: at risk of clinical complications"],
    ("severity", "Stage D"): ["stage d", "Stage D, with clinical complications", "WHF stage D RHD"],
    ("severity", "Screen Positive"): ["screen positive", "Screening-positive", "positive screen"],
    ("severity", "Screen Negative"): ["Screen negative", "negative screening"],
    ("severity", "Normal"): ["Normal", "no RHD", "No evidence of RHD", "normal echocardiogram"],
    ("condition", "Mitral Valve Stenosis"): ["MS", "mitral stenosis", "Mitral valve stenosis"],
    ("condition", "Aortic Valve Stenosis"): ["AS", "Aortic Stenosis"],
    ("condition", "Tricuspid Valve Stenosis"): ["TS", "tricuspid-valve stenosis"],
    ("condition", "Pulmonary Valve Stenosis"): ["pulmonic stenosis", "Pulmonary valve stenosis"],
    ("condition", "Mixed Mitral Valve Disease"): ["mixed mitral valve disease", "Mixed mitral disease"],
    ("condition", "Mixed Aortic Valve Disease"): ["MAVD", "mixed aortic valve disease"],
    ("condition", "Mixed Valve Disease"): ["Mixed valve disease", "mixed valvular disease"],
    ("findings", "Anterior Mitral Leaflet Thickening"): [
        "AMVL thickening",
        "thickened anterior mitral leaflet",
        "Anterior mitral valve leaflet thickening",
        "Thickening of the AML",
    ],
    ("findings", "Chordal Thickening"): [
        "chordal thickening",
        "thickened chordae",
        "Thickening of chordae tendineae",
    ],
    ("findings", "Restricted Leaflet Motion"): [
        "restricted motion",
        "Restricted leaflet motion",
        "restricted mitral valve leaflet mobility",
        "leaflet restriction",
    ],
    ("findings", "Excessive Leaflet Tip Motion"): [
        "excessive leaflet tip motion",
        "Excessive tip motion",
        "excessive AMVL tip motion during systole",
    ],
    ("findings", "Flail Leaflet"): ["flail", "Flail mitral leaflet", "flail anterior leaflet"],
    ("findings", "Aortic Cusp Thickening"): ["aortic cusp thickening", "Thickened aortic valve"],
    ("findings", "Aortic Valve Prolapse"): ["aortic valve prolapse", "aortic cusp prolapse"],
    ("findings", "Healthy"): ["normal", "No findings"],
    ("view", "Suprasternal"): ["suprasternal", "Suprasternal notch view", "SSN"],
    ("view", "Subcostal"): ["Subcostal", "subxiphoid view"],
    ("view", "Apical Two Chamber (A2C)"): ["A2C", "apical 2-chamber"],
    ("view", "Apical Three Chamber (A3C)"): ["A3C", "Apical long axis", "APLAX"],
    ("view", "Apical Five Chamber (A5C)"): ["A5C", "apical five chamber view"],
    ("view", "Parasternal Long Axis (PLAX Colour)"): [
        "PLAX colour",
        "PLAX (color Doppler)",
        "colour PLAX",
        "Parasternal long axis (PLAX) with colour",
    ],
    ("view", "Apical Four Chamber (A4C Colour)"): [
        "A4C with color Doppler",
        "A4C CFM",
        "apical 4 chamber colour flow",
    ],
    ("view", "Subcostal (Colour)"): ["subcostal color"],
    ("view", "Doppler"): ["Doppler", "colour Doppler", "Color doppler"],
    ("thickness", "Not Thick"): ["Not thick", "no", "no thickening", "not thickened"],
    ("thickness", "Thick"): ["thick", "Thickened", "yes"],
}


@pytest.mark.parametrize(
    ("task", "name", "spelling"),
    [(*of, spelling) for of, spellings in SPELLINGS.items() for spelling in spellings],
)
def test_spellings_are_brought_to_one_name(task, name, spelling):
    cells = [spelling, "Something else", "Definite RHD"]
    assert make_class_parser(VOCABULARY[task], cells)(spelling) == {name}


def test_each_name_is_its_own_spelling_and_no_other_class():
    for task in VOCABULARY.values():
        for name in task.patterns:
            assert task.known_class(normalize(name)) == name, "in the order of the patterns"


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("severity", "A"),  # a letter may be a code of the table's own
        ("severity", "Mild RHD"),  # a grade, or stage B?
        ("severity", "Stage E"),
        ("severity", "Stage AB"),
        ("view", "colour"),
        ("view", "PLAX zoom"),
        ("findings", "leaflet"),
        ("findings", "restricted"),
        ("condition", "mixed"),
    ],
)
def test_what_is_ambiguous_stays_a_class_of_its_own(task, text):
    assert VOCABULARY[task].known_class(normalize(text)) is None


def test_long_texts_are_read_at_once():
    start = time.perf_counter()
    for task in VOCABULARY.values():
        for word in ("rhd", "whf2023", "thickening", "colour", "restricted", "stagea", "aortic"):
            task.known_class(word * 300)
    assert time.perf_counter() - start < 1


def test_stages_depend_on_age_and_weight_and_borderline_disease_on_age():
    (stages,) = diagnostic_limits(["Normal", "Stage A", "Stage C"])
    assert "20 years" in stages and "weight" in stages and "frame alone" in stages
    (borderline,) = diagnostic_limits(["Normal", "Borderline RHD"])
    assert "WHF 2012" in borderline and "20 years" in borderline
    assert diagnostic_limits(["Normal", "None", "Mild", "Borderline", "PLAX"]) == []
    assert len(diagnostic_limits(["Definite RHD", "Stage B", "Screen Positive"])) == 3
