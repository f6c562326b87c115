"""Terms of the field: {class: pattern of its spellings}, in clinical order, and the scales of severity.

A pattern must match a whole spelling, reduced to lower-case letters and digits.

Sources: World Heart Federation criteria of 2012 (Remenyi et al., Nat Rev Cardiol 2012;9:297-309) and of 2023
(Rwebembera et al., Nat Rev Cardiol 2024;21:250-263, published online in 2023). Those of 2012 know normal,
borderline (only in people of 20 years or younger) and definite disease. Those of 2023 know a positive or
negative screen, and four stages: A, minimal criteria (only to 20 years); B, mild; C, advanced, at risk of
complications; D, advanced, with complications.
"""

from collections.abc import Iterator
from dataclasses import dataclass

NONE = "None"  # a degree only beside others, see `Task.reads_none`
COLOUR = r"(?:with|in|and)?(?:colou?r(?:flow)?(?:doppler)?(?:mode|imaging|mapping)?|cfd|cfm)"

STANDARD_VIEWS = {
    "Parasternal Long Axis (PLAX)": r"(parasternallongaxis(view)?)?(plax)?",
    "Parasternal Short Axis (PSAX)": r"(parasternalshortaxis(view)?)?(psax)?",
    "Apical Two Chamber (A2C)": r"(apical(two|2)chambers?(view)?)?(a2c|2ch)?",
    "Apical Three Chamber (A3C)": r"(apical(three|3)chambers?(view)?|apicallongaxis(view)?)?(a3c|3ch|aplax)?",
    "Apical Four Chamber (A4C)": r"(apical(four|4)chambers?(view)?)?(a4c|4ch)?",
    "Apical Five Chamber (A5C)": r"(apical(five|5)chambers?(view)?)?(a5c|5ch)?",
    "Subcostal": r"subcostal(view)?|subxiphoid(view)?",
    "Suprasternal": r"suprasternal(notch)?(view)?|ssn",
}


def _with_colour(views: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Each view, and after it the same with colour Doppler, a class of its own: the jets are seen there."""
    for name, pattern in views.items():
        yield name, pattern
        colour_name = name[:-1] + " Colour)" if name.endswith(")") else f"{name} (Colour)"
        # neither alternative is colour alone: patterns of views match the empty text
        yield colour_name, rf"(?!{COLOUR}$)(?:{pattern}){COLOUR}|{COLOUR}(?!$)(?:{pattern})"


VIEWS = dict(_with_colour(STANDARD_VIEWS)) | {"Doppler": r"(colou?r)?doppler"}

CONDITIONS = {
    "Healthy": r"healthy|normal",
    "Aortic Valve Regurgitation": r"aortic(valve)?(regurgitation|insufficiency)|ar",
    "Mitral Valve Prolapse": r"mitral(valve)?prolapse|mvp",
    "Mitral Valve Regurgitation": r"mitral(valve)?(regurgitation|insufficiency)|mr",
    "Pulmonary Valve Regurgitation": r"pulmon(ary|ic)(valve)?(regurgitation|insufficiency)|pr",
    "Tricuspid Valve Regurgitation": r"tricuspid(valve)?(regurgitation|insufficiency)|tr",
    "Aortic Valve Stenosis": r"aortic(valve)?stenosis|as",
    "Mitral Valve Stenosis": r"mitral(valve)?stenosis|ms",
    "Pulmonary Valve Stenosis": r"pulmon(ary|ic)(valve)?stenosis|ps",
    "Tricuspid Valve Stenosis": r"tricuspid(valve)?stenosis|ts",
    # regurgitation and stenosis of one valve
    "Mixed Aortic Valve Disease": r"mixedaortic(valve)?(disease)?|mavd",
    "Mixed Mitral Valve Disease": r"mixedmitral(valve)?(disease)?",
    "Mixed Valve Disease": r"mixed(valve|valvular|valvularheart)?disease",
}

OF = r"(of)?(the)?"
THICK, RESTRICTED = r"thick(ened|ening)?", rf"(restricted|reduced|restriction){OF}"
MOTION = r"(motion|mobility|movement|opening)"
AMVL = r"(anteriormitral(valve)?leaflet|anteriorleafletofthemitralvalve|amvl|aml)"
CHORDS = r"chord(s|al|ae|aetendineae)"
CUSP = r"aortic(valve)?(cusps?|leaflets?)?"
# The signs of rheumatic disease in the shape and motion of valves; of the mitral one where a leaflet has no
# other name.
FINDINGS = {
    "Anterior Mitral Leaflet Thickening": rf"{THICK}{OF}{AMVL}|{AMVL}{THICK}",
    "Mitral Leaflet Thickening": rf"{THICK}{OF}mitral(valve)?(leaflets?)?|mitral(valve)?(leaflets?)?{THICK}",
    "Chordal Thickening": rf"{THICK}{OF}{CHORDS}|{CHORDS}{THICK}",
    "Restricted Leaflet Motion": rf"{RESTRICTED}(mitral)?(valve)?(leaflet)?{MOTION}"
    rf"|(mitral)?(valve)?leaflet({MOTION}restricted|restriction)",
    "Excessive Leaflet Tip Motion": rf"excessive({AMVL}|(mitral)?(valve)?(leaflet)?)(tip)?{MOTION}"
    r"(duringsystole)?",
    "Flail Leaflet": r"flail(anterior|posterior)?(mitral)?(valve)?(leaflet)?|(mitral)?(valve)?leafletflail",
    "Aortic Cusp Thickening": rf"{THICK}{OF}{CUSP}|{CUSP}{THICK}",
    "Restricted Aortic Cusp Motion": rf"{RESTRICTED}{CUSP}{MOTION}|{CUSP}({MOTION}restricted|restriction)",
    "Aortic Valve Prolapse": rf"{CUSP}prolapse|prolapsed?{OF}{CUSP}",
    "Coaptation Defect": r"(aortic)?(valve)?(cusps?|leaflets?)?coaptationdefect",
}
NO_FINDING = {"Healthy": r"healthy|normal|no(abnormal)?findings?"}

THICKNESS = {
    "Not Thick": r"no|absent|normal|thin|(not|no)(leaflet)?thick(ened|ening)?",
    "Thick": r"yes|present|(leaflet)?thick(ened|ening)?",
}

RHD = r"(rhd|rheumaticheartdisease)"
STAGE_WORD = r"(whf|2023|early|minim(al|um)|mild|advanced|echo|criteria|rhd|rheumaticheartdisease)*"
AT_RISK = r"((at|with)?risk(of)?(progression|(clinical)?complications?)|with(clinical)?complications?)?"


def _stage(letter: str) -> str:
    """The spellings of a stage; the letter alone may be a code of the table's own."""
    return rf"{STAGE_WORD}stage{letter}{STAGE_WORD}{AT_RISK}|(whf(2023)?{RHD}?|{RHD}){letter}{RHD}?"


STAGES = {f"Stage {letter.upper()}": _stage(letter) for letter in "abcd"}
SEVERITIES = {
    NONE: r"none",
    "Normal": rf"normal(echo(cardiogram|cardiography)?)?|no(signs?of|evidenceof)?{RHD}",
    "Trivial": r"trivial|trace",
    "Mild": r"mild",
    "Moderate": r"moderate",
    "Severe": r"severe",
    "Borderline RHD": rf"(whf)?(2012)?borderline{RHD}?",
    "Definite RHD": rf"(whf)?(2012)?definite{RHD}?|{RHD}",
    "Screen Negative": r"(whf)?(2023)?screen(ing|ed)?negative|negativescreen(ing)?",
    "Screen Positive": r"(whf)?(2023)?screen(ing|ed)?positive|positivescreen(ing)?",
} | STAGES


@dataclass(frozen=True)
class Scale:
    """Degrees of one thing.

    Attributes:
        name: for messages.
        degrees: classes, the lowest first.
        limits: which of them no frame alone can tell, and why; "" for none.
    """

    name: str
    degrees: tuple[str, ...]
    limits: str = ""


GRADES = Scale("grades", (NONE, "Normal", "Trivial", "Mild", "Moderate", "Severe"))
WHF_2012 = Scale(
    "WHF 2012",
    ("Normal", "Borderline RHD", "Definite RHD"),
    "borderline RHD (WHF 2012) is only diagnosed in people of 20 years or younger, and how thick a leaflet "
    "may be depends on age: a frame alone cannot tell it",
)
SCREENING = Scale(
    "WHF 2023 screening",
    (NONE, "Normal", "Screen Negative", "Screen Positive"),
    "the length of a jet that makes a screen positive (WHF 2023) depends on weight, below 30 kg or not: a "
    "frame alone cannot tell it",
)
WHF_2023 = Scale(
    "WHF 2023",
    (NONE, "Normal", *STAGES),
    "stages (WHF 2023) depend on age and weight: stage A is only of people of 20 years or younger, stage B "
    "takes more signs in older ones, and the length of a jet that counts depends on weight, below 30 kg or "
    "not: a frame alone cannot tell them",
)
NO_DISEASE = frozenset({NONE, "Normal", "Screen Negative"})  # degrees
SEVERITY_SCALES = (GRADES, WHF_2012, SCREENING, WHF_2023)
