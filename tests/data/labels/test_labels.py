import bz2
import gzip
import io
import lzma
import tracemalloc
import zipfile

import numpy as np
import pytest

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.labels.labels import read_labels
from simclr_rhd.data.labels.matching import LabelledFiles
from simclr_rhd.data.labels.patients import make_patient_parser
from simclr_rhd.data.labels.table import (
    PATIENT_TABLE_COLUMNS,
    match_rows_to_files,
    read_rows,
    read_table_bytes,
)
from simclr_rhd.data.labels.tasks import classes
from simclr_rhd.data.labels.tasks.classes import UnreadableCellError
from simclr_rhd.data.labels.video_ids import assign_videos
from simclr_rhd.data.labels.vocabulary import VOCABULARY
from simclr_rhd.data.splits.groups import make_groups

L, U = "lab", "un/lab"
HEADER = "FILENAME,VIEW-APP,CONDITION,SEVERITY"


def read(table, names, unlabelled=(), header=HEADER, listed=None, policy="drop", patients=""):
    labelled = [f"{L}/{name}" for name in names]
    keys = sorted(labelled + [f"{U}/{name}" for name in unlabelled])
    text = header + "\n" + table
    people = read_rows(patients.encode(), "p.csv", required_columns=PATIENT_TABLE_COLUMNS) if patients else ()
    files = LabelledFiles(keys, listed or labelled, (L, U))
    return keys, read_labels(text.encode(), "table.csv", files, policy=policy, patient_rows=people)


def make_class_parser(task, cells):
    return classes.make_class_parser(VOCABULARY[task], cells)


def label(labels, keys, task, name):
    number = labels.values[task][keys.index(f"{L}/{name}")]
    return None if number < 0 else labels.classes[task][number]


def test_the_spellings_of_real_exports_are_one_class_each():
    keys, labels = read(
        "a_frame1.png,Parasternal long axis (PLAX),['Not Applicable'],Not Applicable\n"
        "b_frame1.png,PLAX,\"['Mitral Valve Regurgitation']\",Borderline rhd\n"
        "c_frame1.png,Parasternal short axis(PSAX),"
        "\"['Aortic Valve Regurgitation', 'Pulmonary Valve Regurgitation']\",RHD\n"
        "d_frame1.png,Apical Four Chamber(A4C),"
        "\"['Pulmonary Valve Regurgitation','Aortic Valve Regurgitation']\",Definite rhd\n"
        "e_frame1.png,not applicable,['Mitral valve  prolapse'],Normal\n",
        [f"{c}_frame1.png" for c in "abcde"],
    )
    assert labels.classes["view"] == [
        "Parasternal Long Axis (PLAX)",
        "Parasternal Short Axis (PSAX)",
        "Apical Four Chamber (A4C)",
        "Not Applicable",
    ]
    assert labels.classes["condition"] == [
        "Mitral Valve Prolapse",
        "Mitral Valve Regurgitation",
        "Not Applicable",
        "Aortic Valve Regurgitation + Pulmonary Valve Regurgitation",
    ]
    assert labels.classes["severity"] == ["Not Applicable", "Normal", "Borderline RHD", "Definite RHD"]
    assert labels.values["view"].tolist() == [0, 0, 1, 2, 3]
    assert labels.values["condition"].tolist() == [2, 1, 3, 3, 0]
    assert labels.values["severity"].tolist() == [0, 2, 3, 3, 1]


def test_empty_cells_are_not_annotated_and_never_not_applicable():
    keys, labels = read(
        "a_frame1.png,PLAX,[],\nb_frame1.png,,,nan\nc_frame1.png,PSAX,\"['']\",Normal\n",
        ["a_frame1.png", "b_frame1.png", "c_frame1.png"],
    )
    assert labels.values["condition"].tolist() == [-1, -1, -1]
    assert labels.values["severity"].tolist() == [-1, -1, 0]
    assert labels.classes["condition"] == []
    assert labels.annotated().tolist() == [True, False, True]


def test_agreeing_rows_merge_and_disagreeing_ones_are_listed():
    keys, labels = read(
        "a_frame1.png,PLAX,['Not Applicable'],Normal\n"
        "a_frame1.png,Parasternal long axis,['Mitral Valve Prolapse'],\n"
        "b_frame1.png,PSAX,['Not Applicable'],Normal\n",
        ["a_frame1.png", "b_frame1.png"],
    )
    assert label(labels, keys, "view", "a_frame1.png") == "Parasternal Long Axis (PLAX)"
    assert label(labels, keys, "severity", "a_frame1.png") == "Normal"
    assert label(labels, keys, "condition", "a_frame1.png") is None
    (conflict,) = labels.conflicts
    assert (conflict.file, conflict.task) == (f"{L}/a_frame1.png", "condition")
    assert conflict.readings == ["Not Applicable", "Mitral Valve Prolapse"] and conflict.used == ""


def test_a_lesion_beside_not_applicable_is_a_contradiction():
    keys, labels = read(
        "a_frame1.png,PLAX,\"['Not Applicable', 'Mitral Valve Prolapse']\",Normal\n", ["a_frame1.png"]
    )
    assert labels.values["condition"].tolist() == [-1] and labels.conflicts[0].task == "condition"


def test_rows_without_file_and_files_without_row_are_reported():
    keys, labels = read(
        "a_frame1.png,PLAX,,\ngone_frame7.png,PLAX,,\n",
        ["a_frame1.png", "extra_frame1.png"],
        ["u_frame1.png"],
    )
    assert labels.rows_without_file == ["gone_frame7.png"]
    assert labels.files_without_row == [f"{L}/extra_frame1.png"]


def test_a_rejected_file_is_not_reported_as_missing():
    keys, labels = read(
        "a_frame1.png,PLAX,,\nbad_frame1.png,PSAX,,\n",
        ["a_frame1.png"],
        listed=[f"{L}/a_frame1.png", f"{L}/bad_frame1.png"],
    )
    assert labels.rows_without_file == []


def test_names_with_folders_blanks_brackets_and_dots():
    name = "10.33.21 hrs __[0005899]_frame12.png"
    keys, labels = read(f"some\\other folder/{name},PLAX,,\n", [name])
    assert label(labels, keys, "view", name) == "Parasternal Long Axis (PLAX)"
    assert labels.videos == ["10.33.21 hrs __[0005899]"]


def test_folders_decide_between_files_of_one_name():
    keys, labels = read(
        "p1/x_frame1.png,PLAX,,\np2/x_frame1.png,PSAX,,\nx_frame1.png,A4C,,\n",
        ["p1/x_frame1.png", "p2/x_frame1.png"],
    )
    assert label(labels, keys, "view", "p1/x_frame1.png") == "Parasternal Long Axis (PLAX)"
    assert label(labels, keys, "view", "p2/x_frame1.png") == "Parasternal Short Axis (PSAX)"
    assert labels.rows_without_file == ["x_frame1.png"], "it could be either"
    assert labels.videos == ["p1/x", "p2/x"]


def test_videos_are_the_text_before_frame_and_stills_their_own():
    keys = [f"{L}/a.b_frame3.png", f"{U}/sub/a.b_frame4.jpg", f"{U}/still 2.png", f"{U}/a_frames_frame1.png"]
    assert assign_videos(keys, (L, U)) == ["a.b", "a.b", "still 2", "a_frames"]


def test_patients_come_from_their_column():
    header = HEADER + ",PATIENT"
    keys, labels = read(
        "a_frame1.png,PLAX,,,p1\na_frame2.png,PLAX,,,\nb_frame1.png,PSAX,,,p2\n",
        ["a_frame1.png", "a_frame2.png", "b_frame1.png"],
        header=header,
    )
    assert labels.patients == ["p1", "", "p2"]


def test_a_frame_of_two_patients_is_not_used():
    keys, labels = read(
        "a_frame1.png,PLAX,,,p1\na_frame1.png,PLAX,,,p2\nb_frame1.png,PSAX,,,p2\n",
        ["a_frame1.png", "b_frame1.png"],
        header=HEADER + ",PATIENT",
    )
    assert labels.values["view"].tolist() == [-1, 0]
    assert [(c.task, c.readings) for c in labels.conflicts] == [("patient", ["p1", "p2"])]
    assert labels.ambiguous_patients == [("a", "p1"), ("a", "p2")]


def test_unknown_classes_are_merged_by_letters_and_called_by_the_commonest_spelling():
    read_class = make_class_parser("view", ["Lung  scan", "lung-scan", "Lung scan", "Suprasternal"])
    assert read_class("lung-scan") == {"Lung scan"} and read_class("Suprasternal") == {"Suprasternal"}


def test_a_severity_that_is_not_of_rhd_keeps_its_name():
    assert make_class_parser("severity", ["Definite", "Borderline"])("Definite") == {"Definite"}
    assert make_class_parser("severity", ["Definite", "Borderline rhd"])("Definite") == {"Definite RHD"}


@pytest.mark.parametrize(
    "cell", ["[" * 500, "['a'", "[1, 2", "{'a': 1}", "__import__('os').system('x')", "{['MR']}", "[" * 3000]
)
def test_hostile_cells_do_no_harm(cell):
    try:
        assert all(isinstance(name, str) for name in make_class_parser("condition", [cell])(cell))
    except UnreadableCellError as error:
        assert error.cell == cell and str(error)


def test_missing_columns_are_named_with_those_found():
    with pytest.raises(
        UserError, match=r"no column CONDITION, SEVERITY; its columns are: FILENAME, VIEW-APP"
    ):
        read_rows(b"FILENAME,VIEW-APP\na,b\n", "table.csv")


@pytest.mark.parametrize(
    "table", [b"", b"\n\n", b",,,\n", b"FILENAME,VIEW-APP,CONDITION,SEVERITY\n", b"\x00\x01\x02", b"\xff\xfe"]
)
def test_unusable_tables_are_refused(table):
    with pytest.raises(UserError, match="table.csv"):
        read_rows(table, "table.csv")


def test_a_table_of_other_files_is_refused():
    with pytest.raises(UserError, match=r"none of its 1 rows.*'z_frame1.png'"):
        read("z_frame1.png,PLAX,,\n", ["a_frame1.png"])


def test_byte_order_mark_semicolons_and_latin_letters():
    rows = read_rows("\ufeffFilename;View-App;Condition;Severity;USER\nä.png;PLAX;;;x\n".encode(), "t")
    assert rows[0]["FILENAME"] == "ä.png" and rows[0]["VIEW-APP"] == "PLAX"
    assert (
        read_rows("FILENAME,VIEW-APP,CONDITION,SEVERITY\nä.png,,,\n".encode("cp1252"), "t")[0]["FILENAME"]
        == "ä.png"
    )


def test_values_are_int64_in_the_order_of_the_keys():
    keys, labels = read(
        "b_frame1.png,PSAX,,\na_frame1.png,PLAX,,\n", ["a_frame1.png", "b_frame1.png"], ["u_frame1.png"]
    )
    for task in labels.classes:
        assert labels.values[task].dtype == np.int64 and len(labels.values[task]) == 3
    assert labels.values["view"].tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    "cell",
    [
        "['Mitral Valve Regurgitation', 'Aortic Valve Regurgitation']",
        "('AR', 'MR')",
        "AR; mr",
        "Mitral Insufficiency, Aortic regurgitation",
        "[Aortic Valve Regurgitation, MR]",
    ],
)
def test_a_pair_of_conditions_in_any_writing_and_order(cell):
    pair = "Aortic Valve Regurgitation + Mitral Valve Regurgitation"
    assert make_class_parser("condition", [cell])(cell) == {pair}


A, M = "Aortic Valve Regurgitation", "Mitral Valve Regurgitation"
WRITINGS = [
    "['{0}' '{1}']",
    "['{0}'\n '{1}']",
    '["{0}" "{1}"]',
    "array(['{0}', '{1}'], dtype=object)",
    "array(['{0}', '{1}'],\n      dtype='<U26')",
    "np.array(['{0}', '{1}'])",
    "[np.str_('{0}'), np.str_('{1}')]",
    "Index(['{0}', '{1}'], dtype='object', name='condition')",
    "{{'{0}', '{1}'}}",
    "frozenset({{'{0}', '{1}'}})",
    'c("{0}", "{1}")',
    '{{"{0}","{1}"}}',
    "{{{0},{1}}}",
    "[['{0}'], ['{1}']]",
    "'{0}', '{1}'",
    "“{0}”, “{1}”",
    "[‘{0}’, ‘{1}’]",
    "[u'{0}', u'{1}', None]",
    '{{"choices": ["{0}", "{1}"]}}',
    '[{{"choices": ["{0}", "{1}"]}}]',
    '[{{"value": {{"choices": ["{0}", "{1}"]}}, "id": "x", "type": "choices"}}]',
    '{{"condition": {{"{0}": true, "{1}": 1, "Mitral Valve Prolapse": false}}}}',
    "{{'choices': ['{0}', '{1}']}}",
    '{{"name": "condition", "answers": [{{"name": "{0}"}}, {{"name": "{1}"}}]}}',
    "\"['{0}', '{1}']\"",
    "{0}|{1}",
    "{0} / {1}",
    "{0} + {1}",
    "{0} and {1}",
    "{0} & {1}",
    "{0}\n{1}",
    "- {0}\n- {1}\n",
    "1. {0}\n2. {1}",
    "{0}, and {1}",
]


@pytest.mark.parametrize("writing", WRITINGS)
def test_a_list_in_the_writings_of_many_tools(writing):
    for one, other in ((A, M), (M, A)):
        cell = writing.format(one, other)
        assert make_class_parser("condition", [cell])(cell) == {f"{A} + {M}"}


@pytest.mark.parametrize("writing", [w for w in WRITINGS if "{{{0}" not in w])
def test_a_list_of_one_condition_and_of_classes_that_are_not_known(writing):
    cells = [writing.format("Barlow", "Ebstein"), writing.format("Ebstein", "Barlow"), "Barlow", "Ebstein"]
    read_class = make_class_parser("condition", cells)
    assert [read_class(cell) for cell in cells[:2]] == [{"Barlow + Ebstein"}] * 2


@pytest.mark.parametrize("cells", [["Foo / bar", "bar / Foo"], ["Foo and bar", "bar", "Foo"]])
def test_texts_that_stand_in_both_orders_or_alone_are_several_classes(cells):
    assert make_class_parser("condition", cells)(cells[0]) == {"Foo + bar"}


def test_aortic_and_mitral_regurgitation_are_two():
    cell = "Mitral and aortic valve regurgitation"
    assert make_class_parser("condition", [cell])(cell) == {f"{A} + {M}"}


@pytest.mark.parametrize(
    "name",
    [
        "Ventricular septal defect / overriding aorta",
        "Thickened and restricted leaflets",
        "Mitral Valve Regurgitation and torn leaflet",
        "Chordae + papillary muscle",
        "Regurgitation (mild, eccentric)",
        "Barlow's disease",
        "(mild) Ebstein",
        "Mitral Stenosis (severe)",
    ],
)
def test_a_name_with_such_a_word_or_sign_is_one_class(name):
    cells = [name, "Mitral Valve Regurgitation"]
    assert make_class_parser("condition", cells)(name) == {name}
    quoted = f'["{name}"]'
    assert make_class_parser("condition", [quoted])(quoted) == {name}


MR, AR = "Mitral Valve Regurgitation", "Aortic Valve Regurgitation"


@pytest.mark.parametrize(
    "cell",
    [
        *(f"dict_keys(['{MR}', '{AR}'])", f"{MR}\t{AR}", f"{MR}\r{AR}", f"{MR}<br>{AR}", f"{MR}\\n{AR}"),
        *(f"{MR}#{AR}", f"{MR} ^ {AR}", f"{MR}~{AR}", f"{MR} : {AR}", f"{MR} -> {AR}", f"<{MR}><{AR}>"),
        *(f"{MR} et {AR}", f"{MR} y {AR}", f"1. {MR} 2. {AR}", f"1) {MR}; 2) {AR}", f"(1) {MR}\n(2) {AR}"),
        *("Mitral, Aortic Regurgitation", '[{"taxonomy": [["Valve", "MR"], ["Valve", "Aortic", "AR"]]}]'),
    ],
)
def test_two_conditions_between_which_stands_what_exports_write(cell):
    read = make_class_parser("condition", [cell, MR, AR, "Mitral Valve Prolapse"])
    assert read(cell) == {f"{AR} + {MR}"}


def test_bytes_of_a_program_are_a_text():
    assert make_class_parser("view", ["b'PLAX'", "PLAX"])("b'PLAX'") == {"Parasternal Long Axis (PLAX)"}


@pytest.mark.parametrize(
    "cell",
    [
        "[1, 0, 1]",
        "[0 0]",
        "tensor([1, 0, 0])",
        "array([0., 1., 0.])",
        f"OrderedDict([('{MR}', True)])",
        "[1 1]",
    ],
)
def test_what_a_program_wrote_and_names_no_class_is_refused(cell):
    with pytest.raises(UnreadableCellError):
        make_class_parser("condition", [cell, MR])
    assert make_class_parser("condition", ["[3, 1]", "[2]"])("[3, 1]") == {"1 + 3"}, "numbers of classes"


def test_a_view_is_one_class_and_a_list_of_two_a_contradiction():
    cells = ["['PLAX']", '{"choices": ["A4C"]}', "['PLAX' 'A4C']", "Parasternal\nlong axis", "A4C/A5C"]
    read_class = make_class_parser("view", cells)
    plax, a4c = {"Parasternal Long Axis (PLAX)"}, {"Apical Four Chamber (A4C)"}
    assert [read_class(cell) for cell in cells] == [plax, a4c, plax | a4c, plax, {"A4C/A5C"}]


@pytest.mark.parametrize(
    "cell",
    [
        "['A",
        "['MR', 'Pulm",
        "['a''b']",
        "{'a': 'x' 'y'}",
        "['a' ... 'z']",
        '{""a"": [""x"", ""y""], ""b"": true}',
    ]
    + ['"Foo bar\nBaz"', "[" + "'MR' " * 1000 + "]"],
)
def test_a_cell_that_is_half_a_list_is_refused_with_its_row(cell):
    quoted = cell if cell[0] == '"' else f'"{cell}"'
    with pytest.raises(UserError, match="table.csv: line 3, column CONDITION: .*'A', 'B'"):
        read(f"a_frame1.png,PLAX,,\nb_frame1.png,PLAX,{quoted},\n", ["a_frame1.png", "b_frame1.png"])


@pytest.mark.parametrize("alone", ["Healthy", "Not Applicable"])
def test_a_healthy_valve_with_a_lesion_is_a_contradiction(alone):
    cell = f"['{alone}', 'Mitral Valve Regurgitation']"
    assert len(make_class_parser("condition", [cell])(cell)) == 2


def test_spellings_of_a_patient_are_one_and_empty_ones_nobody():
    read_patient = make_patient_parser(["P 01", "p  01", " NaN ", "n/a", "", "02"])
    assert read_patient("P 01") == read_patient("p  01") == {"P 01"}
    assert read_patient(" NaN ") == read_patient("n/a") == read_patient("") == set()
    assert read_patient("02") == {"02"}


def test_folders_tell_only_those_videos_apart_whose_names_meet():
    names = ["a/x_frame1.png", "b/x_frame1.png", "y_frame1.png"]
    keys = [f"{L}/{name}" for name in names] + [f"{U}/a/x_frame2.png", f"{U}/far/y_frame2.png"]
    assert assign_videos(keys, (L, U)) == ["a/x", "b/x", "y", "a/x", "y"]


def test_clips_of_one_name_in_several_folders_are_several_videos():
    keys = [f"{prefix}/{p}{n}/IM_0001" for prefix, p in ((L, "P"), (U, "Q")) for n in range(3)]
    assert len(set(assign_videos(keys, (L, U)))) == 6
    names = [f"{L}/echo_frames_{n}.mp4" for n in range(3)]
    assert assign_videos(names, (L, U)) == [f"echo_frames_{n}" for n in range(3)]


def test_in_doubt_frames_of_one_name_are_one_video():
    """A labelled video at the top may be either of two unlabelled ones of its name: it must not meet them."""
    keys = [f"{L}/x_frame1.png", f"{U}/a/x_frame1.png", f"{U}/b/x_frame1.png", f"{U}/a/z_frame1.png"]
    assert assign_videos(keys, (L, U)) == ["x", "x", "x", "z"]


def test_the_word_frame_in_any_case():
    assert assign_videos([f"{L}/x_Frame1.png", f"{L}/x_FRAME2.PNG", f"{L}/_frame3.png"], (L, U)) == [
        "x",
        "x",
        "_frame3",
    ]


NUMBERED = ["frame_0001", "0001", "12", "img3", "Image (4)", "IM_0005", "im-6", "FRAME 7", "out001", "_8"]


def test_a_still_whose_name_only_numbers_it_is_of_the_video_that_its_folder_is_called():
    keys = [f"{L}/clip{clip}/{stem}.png" for clip in (7, 8) for stem in NUMBERED]
    assert assign_videos(keys, (L, U)) == ["clip7"] * len(NUMBERED) + ["clip8"] * len(NUMBERED)
    folders = [f"{L}/p1/clip7/frames/0001.png", f"{L}/p2/clip7/frames/0001.png", f"{U}/p1/clip7/0009.png"]
    assert assign_videos(folders, (L, U)) == ["p1/clip7", "p2/clip7", "p1/clip7"]


@pytest.mark.parametrize(
    "name",
    [
        *("{0}/{0}_{1:04d}.png", "{0}/{0} ({1}).jpg", "{0}/frame#{1}.png", "{0}/fr_{1}.png"),
        *("{0}/scene{1:05d}.png", "{0}/JPEGImages/{1}.jpg", "{0}/extracted_frames/img{1}.png"),
        *("{0}/snapshot-{1}.png", "{0}/Bild {1}.png", "{0}/slice_{1}.tif"),
    ],
)
def test_stills_that_are_numbered_in_a_folder_a_clip_are_of_as_many_videos_as_folders(name):
    """As VLC, ffmpeg or a person number them; labelled and unlabelled clips are others."""
    keys = [f"{L}/{name.format(f'a{clip}', number)}" for clip in range(4) for number in range(3)]
    keys += [f"{U}/{name.format(f'b{clip}', number)}" for clip in range(4) for number in range(3)]
    videos = assign_videos(keys, (L, U))
    assert len(set(videos)) == 8
    assert all(len({*videos[first : first + 3]}) == 1 for first in range(0, len(videos), 3))


@pytest.mark.parametrize("name", ["{0}/clip{1}/0001.png", "{0}/plax_frame{1}.png", "{0}/a4c{1}.png"])
def test_names_that_repeat_in_the_folders_of_patients_are_of_several_videos(name):
    """One video of a name for all patients would stand for all of them, and be torn or stop the run."""
    keys = [f"{L}/{name.format(f'p{n}', k)}" for n in range(4) for k in (1, 2)]
    keys += [f"{U}/{name.format(f'q{n}', k)}" for n in range(4) for k in (1, 2)]
    folder_of = dict(zip(keys, assign_videos(keys, (L, U)), strict=True))
    assert all(
        video.startswith(f"{key.split('/')[-2 - key.count('/clip')]}/") for key, video in folder_of.items()
    )


def test_names_that_say_more_than_a_number_are_as_they_were():
    keys = [f"{L}/a/7_frame1.png", f"{L}/a/still 2.png", f"{L}/a/IM_0001", f"{L}/0001.png", f"{U}/a/3.mp4"]
    assert assign_videos(keys, (L, U)) == ["7", "still 2", "IM_0001", "0001", "3"]


def test_numbered_stills_of_labelled_and_unlabelled_clips_meet():
    keys = [f"{L}/clip7/0001.png", f"{U}/far/clip7/frame_0002.png", f"{U}/clip8/frame_0001.png"]
    assert assign_videos(keys, (L, U)) == ["clip7", "clip7", "clip8"]


def test_a_table_of_bare_numbers_is_told_to_name_folders():
    with pytest.raises(UserError, match="'0001.png'; 2 files are called so: put the folder .* 'a/0001.png'"):
        read("0001.png,PLAX,,\n", ["a/0001.png", "b/0001.png"])


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ('a.png,"PLAX,,,\nb.png,PSAX,,,\nc.png,"A4C",,,\nd.png,A4C,,,\n', "line 2 goes on to line 4"),
        ('a.png,PLAX,,,"12 mm\nb.png,PSAX,,,\nc.png,A4C,,,13"\nd.png,A4C,,,\n', "line 2 goes on to line 4"),
        ('a.png,PLAX,,,\nb.png,PSAX,,,"unclear\nc.png,A4C,,,\n', "line 3 goes on to line 4"),
        ('a.png,PLAX,,,"5\nb.png,"PSAX",,,\nd.png,A4C,,,\n', "line 2 goes on to line 3"),
        ('a.png,PLAX,,,"5\nb.png,PSAX,,5",\nd.png,A4C,,,\n', "line 2 goes on to line 3"),
        (',,,,"no file\nb.png,PSAX,,,"\nd.png,A4C,,,\n', "line 2 goes on to line 3"),
        ('IM1,PLAX,,,"5\nIM2,PSAX,,,\nIM3,PSAX,,,6"\nIM4,A4C,,,\n', "line 2 goes on to line 4"),
        ('"a.png\nb.png",PSAX,,,\nd.png,A4C,,,\n', "line 2 goes on to line 3"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_stray_quotation_mark_is_an_error_and_swallows_no_rows(rows, lines, end):
    table = (HEADER + ",NOTE\n" + rows).replace("\n", end)
    with pytest.raises(UserError, match=f"t.csv: the row that begins in {lines}, .* quotation mark"):
        read_rows(table.encode(), "t.csv")


def test_a_stray_quotation_mark_in_the_header_is_named():
    with pytest.raises(
        UserError, match="begins in line 1 goes on to line 3, and .* quotation marks do not match"
    ):
        read_rows(f'{HEADER},"NOTES\na.png,PLAX,,,\nb.png,PSAX,,,\n'.encode(), "t")


@pytest.mark.parametrize(
    "note",
    ["two\nlines", "seen in A4C, PSAX, PLAX, all\nwith a jet, late, small, central, x", 'a ""word""\nor two'],
)
def test_a_true_cell_of_two_lines_is_a_cell(note):
    rows = read_rows((HEADER + f',NOTE\na.png,PLAX,,,"{note}"\nb.png,PSAX,,,\n').encode(), "t.csv")
    assert [row["FILENAME"] for row in rows] == ["a.png", "b.png"]
    assert [row.line for row in rows] == [2, 4] and rows[0]["NOTE"] == note.replace('""', '"')


def test_a_column_that_stands_there_twice_is_refused():
    with pytest.raises(UserError, match="SEVERITY stands there more than once"):
        read_rows(b"FILENAME,VIEW-APP,CONDITION,SEVERITY,Severity\na.png,,,,\n", "table.csv")
    with pytest.raises(UserError, match="LV-FUNCTION stands there more than once"):  # of a task of the user's
        table = b"FILENAME,LV_function,LV Function\na.png,,\n"
        read_rows(table, "table.csv", required_columns=("FILENAME", "LV-FUNCTION"))
    table = b"FILENAME,NOTE,NOTE\na.png,,\n"  # of none
    assert read_rows(table, "table.csv", required_columns=("FILENAME",))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_tables_as_spreadsheets_write_them(encoding):
    text = "sep=;\r\nFILENAME;VIEW-APP;CONDITION;SEVERITY\r\nä.png;PLAX;;\r\n"
    assert read_rows(text.encode(encoding), "t")[0]["FILENAME"] == "ä.png"


def test_a_list_without_quotation_marks_shifts_no_cells():
    with pytest.raises(UserError, match="line 2 has more cells than there are columns.*quotation marks"):
        read_rows((HEADER + ",PATIENT\na.png,PLAX,['AR', 'MR'],Normal,P1\n").encode(), "table.csv")
    assert len(read_rows((HEADER + "\na.png,PLAX,,,,\n").encode(), "table.csv")) == 1


def test_frames_of_a_clip_share_its_row():
    files = [f"{L}/a.mp4", f"{L}/a.mp4", f"{U}/b.mp4", f"{L}/IM.0001", f"{L}/1.2.840.113", f"{L}/1.2.840.114"]
    table = f"{HEADER}\na.mp4,PLAX,,\nIM.0001,PSAX,,\n".encode()
    listed = sorted({f for f in files if f.startswith(L)})
    labels = read_labels(table, "t", LabelledFiles(files, listed, (L, U)))
    assert labels.values["view"].tolist() == [0, 0, -1, 1, -1, -1]
    assert labels.videos == ["a", "a", "b", "IM.0001", "1.2.840.113", "1.2.840.114"]


def test_a_dicom_patient_is_a_hash_and_the_tables_patient_comes_first():
    files = [f"{L}/a.dcm", f"{L}/b.dcm"]
    table = f"{HEADER},PATIENT\na.dcm,PLAX,,,P1\nb.dcm,PSAX,,,\n".encode()
    hashed = dict.fromkeys(files, "0123")
    labels = read_labels(table, "t", LabelledFiles(files, files, (L, U), hashed))
    assert labels.patients == ["P1", "dicom-0123"]
    groups, _ = make_groups(
        labels.videos, labels.patients, "auto", ambiguous_patients=labels.ambiguous_patients
    )
    assert groups == ["patient P1", "patient P1"], "the file says that both are of one patient"


@pytest.mark.parametrize(
    ("policy", "view", "condition"),
    [("drop", None, None), ("latest", "PSAX", "MR"), ("majority", "PLAX", None)],
)
def test_policies_settle_disagreements(policy, view, condition):
    keys, labels = read(
        "a_frame1.png,PLAX,MVP,,ann,2024-01-01 10:00\n"
        "a_frame1.png,PSAX,MR,,bob,2024-03-01 10:00\n"
        "a_frame1.png,PLAX,,,cy,2024-02-01 10:00\n"
        "b_frame1.png,PSAX,MR,,ann,2024-02-01 10:00\n"
        "c_frame1.png,PLAX,MVP,,ann,2024-02-01 10:00\n",
        ["a_frame1.png", "b_frame1.png", "c_frame1.png"],
        header=HEADER + ",USER,TIMESTAMP",
        policy=policy,
    )
    found = [label(labels, keys, task, "a_frame1.png") for task in ("view", "condition")]
    wanted = [
        make_class_parser(task, [text])(text) if text else {None}
        for task, text in (("view", view), ("condition", condition))
    ]
    assert [{name} for name in found] == wanted
    (views, _) = labels.conflicts
    assert views.users == ["ann", "bob", "cy"] and views.times[1] == "2024-03-01 10:00"
    assert views.used == (found[0] or "")


def test_what_is_not_seen_is_no_part_of_a_name():
    _, labels = read("a_frame1.png,A4C\u202e left\u200b,,", ["a_frame1.png"])
    assert labels.classes["view"] == ["A4C left"]


def test_all_patients_of_the_table_are_known_those_without_a_frame_too():
    rows = "a_frame1.png,A4C,,,P1\ngone_frame1.png,A4C,,,P2\nb_frame1.png,A4C,,,"
    _, labels = read(rows, ["a_frame1.png", "b_frame1.png"], header=HEADER + ",PATIENT")
    assert labels.table_patients == ["P1", "P2"] and labels.patients == ["P1", ""]


HIDDEN = [
    "\x07",
    "\x1b[31m",
    "\x92",
    "\ue000",
    "\U000f0000",
    "\U0010fffd",
    "\x7f",
    "\u200b",
    "\u2028",
    "\u0378",
]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_class_names_can_be_shown_so_that_the_model_can_be_loaded(hidden):
    cells = [f"Left {hidden}view", f"['Barlow{hidden}', 'MR']", f"mild{hidden}"]
    row = ",".join(["a_frame1.png", cells[0], f'"{cells[1]}"', cells[2]])
    _, labels = read(row + "\n", ["a_frame1.png"])
    for names in labels.classes.values():
        assert len(names) == 1 and names[0].isprintable()
    assert labels.classes["severity"] == ["Mild"]


def test_names_that_json_escapes_can_be_shown():
    cell = '{"choices": ["Left\\u0007 \\ue000view", "[\'a\\u0007\']"]}'
    assert make_class_parser("condition", [cell])(cell) == {"Left view + a"}


def test_composed_and_decomposed_letters_are_one_class():
    _, labels = read(
        "a_frame1.png,vue e\u0301,,\nb_frame1.png,vue \u00e9,,\n", ["a_frame1.png", "b_frame1.png"]
    )
    assert labels.classes["view"] == ["vue \u00e9"]


def test_a_column_of_notes_is_no_column_of_classes():
    names = [f"n{number}_frame1.png" for number in range(1001)]
    with pytest.raises(UserError, match="VIEW-APP has 1001 classes"):
        read("".join(f"{name},note {name},,\n" for name in names), names)


def patients_of(keys, labels):
    return dict(zip(keys, labels.patients, strict=True))


@pytest.mark.parametrize(
    "patients",
    [
        f"FILENAME,PATIENT\n{U}/p1/c_frame1.png,P1\n{U}/p2,P2\n",
        "FILENAME,PATIENT\nc_frame1.png,p1\np2/,P2\n",
        f"Patient;FileName\nP1;un\\lab\\p1\nP2;{U}/p2/sub\n",
    ],
)
def test_a_table_of_patients_names_files_and_folders_of_either_prefix(patients):
    keys, labels = read(
        "a_frame1.png,PLAX,,,P1\n",
        ["a_frame1.png"],
        ["p1/c_frame1.png", "p2/sub/d_frame1.png", "p2/sub/e.mp4", "p3/f_frame1.png"],
        header=HEADER + ",PATIENT",
        patients=patients,
    )
    assert labels.patients == ["P1", "P1", "P2", "P2", ""] and labels.rows_without_file == []
    assert labels.table_patients == ["P1", "P2"]


def test_a_row_of_the_label_table_names_the_patient_of_an_unlabelled_file_and_no_label_of_it():
    keys, labels = read(
        f"a_frame1.png,PLAX,,,P1\n{U}/a_frame1.png,,,,P2\nc.mp4,PSAX,,,P1\nclips,,,,P3\nnone.mp4,,,,P4\n",
        ["a_frame1.png"],
        ["a_frame1.png", "c.mp4", "clips/d.mp4"],
        header=HEADER + ",PATIENT",
    )
    assert labels.patients == ["P1", "P2", "P1", "P3"], "a whole path is of that file alone"
    assert labels.classes["view"] == ["Parasternal Long Axis (PLAX)"]
    assert labels.annotated().tolist() == [True, False, False, False]
    assert labels.rows_without_file == ["none.mp4"]


def test_tables_that_disagree_on_a_patient_are_a_conflict_and_join_both():
    keys, labels = read(
        "a_frame1.png,PLAX,,,P1\nb_frame1.png,PLAX,,,P3\n",
        ["a_frame1.png", "b_frame1.png"],
        header=HEADER + ",PATIENT",
        patients="FILENAME,PATIENT\na_frame1.png,P2\nb_frame1.png,p3\ngone.png,P1\n",
    )
    assert [(c.task, c.readings) for c in labels.conflicts] == [("patient", ["P1", "P2"])]
    assert labels.ambiguous_patients == [("a", "P1"), ("a", "P2")] and labels.rows_without_file == [
        "gone.png"
    ]


def test_a_folder_that_is_a_prefix_or_above_it_is_nobodys():
    table = "FILENAME,PATIENT\nlab,P1\nun,P2\nun/lab,P3\n"
    _, labels = read("a_frame1.png,PLAX,,\n", ["a_frame1.png"], ["b_frame1.png"], patients=table)
    assert labels.patients == ["", ""]


def test_the_folder_of_a_bare_number_must_agree():
    rows = read_rows(
        b"FILENAME,PATIENT\nclip7/0031.png,P1\nx/a_frame1.png,P2\n",
        "t",
        required_columns=PATIENT_TABLE_COLUMNS,
    )
    found, unmatched = match_rows_to_files(rows, [f"{L}/clip8/0031.png", f"{L}/y/a_frame1.png"])
    assert list(found) == [f"{L}/y/a_frame1.png"] and unmatched == rows[:1]


US = "a_frame1.png,PLAX,,,3/4/2021 7:07\na_frame1.png,PSAX,,,{0}/5/2021 7:07\nb_frame1.png,PLAX,,,{1}\n"


def test_american_times_settle_a_conflict_where_another_row_says_the_order(caplog):
    how = {"names": ["a_frame1.png", "b_frame1.png"], "header": HEADER + ",TIMESTAMP", "policy": "latest"}
    _, labels = read(US.format(2, "9/21/2021 7:07"), **how)
    assert labels.conflicts[0].used == "Parasternal Long Axis (PLAX)" and not caplog.messages
    _, labels = read(US.format(2, "9/2/2021 7:07"), **how)
    assert labels.conflicts[0].used == ""
    (message,) = caplog.messages
    assert "2 of the 2 times" in message and "the first: '3/4/2021 7:07' (day or month first?)" in message


def test_none_beside_other_grades_is_a_degree_and_elsewhere_not_annotated_with_a_notice(caplog):
    caplog.set_level("INFO", "simclr_rhd")
    names = [f"{letter}_frame1.png" for letter in "abcd"]
    grades = "a_frame1.png,,,None\nb_frame1.png,,,mild\nc_frame1.png,,None,Severe\nd_frame1.png,,,moderate\n"
    _, labels = read(grades, names)
    assert labels.classes["severity"] == ["None", "Mild", "Moderate", "Severe"]
    assert labels.values["severity"].tolist() == [0, 1, 3, 2] and labels.classes["condition"] == []
    assert VOCABULARY["severity"].ordinal_classes(labels.classes["severity"]) == [0, 1, 2, 3]
    assert [line.split(":")[0] for line in caplog.messages] == ["NOTICE CONDITION", "NOTICE SEVERITY"]
    assert "1 cells contain 'None', which is read as a degree" in caplog.messages[1]
    caplog.clear()
    _, labels = read("a_frame1.png,,,None\nb_frame1.png,,,Normal\nc_frame1.png,,,nan\n", names[:3])
    assert labels.classes["severity"] == ["Normal"]
    assert caplog.messages == ["NOTICE SEVERITY: 1 cells contain 'None', which is read as not annotated"]


def zipped(name):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(zipfile.ZipInfo(name), "<worksheet/>")  # of 1980: the bytes name the tests
    return stream.getvalue()


PLAIN = (HEADER + "\na.png,PLAX,,\n").encode()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (zipped("xl/worksheets/sheet1.xml"), "a workbook .* save it as CSV"),
        (zipped("content.xml"), "a workbook .* save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504), "an old workbook .* save it as CSV"),
        (gzip.compress(PLAIN, mtime=0), "compressed with gzip.* Unpack it"),
        (bz2.compress(PLAIN), "compressed with bzip2.* Unpack it"),
        (lzma.compress(PLAIN), "compressed with xz.* Unpack it"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b'[{"FILENAME": "a.png"}]', "a JSON document.* Export the labels as CSV"),
        (b'[\r\n {"FILENAME": "a.png"}]', "a JSON document"),
        (b'[ {"FILENAME": "a.png"}]', "a JSON document"),
        (b"<table><tr><td>FILENAME", "a web page.* save it as CSV"),
        (b"<stata_dta>", "a Stata file.* save it as CSV"),
        (b"$FL2@(#) SPSS", "an SPSS file.* save it as CSV"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS.* git lfs pull"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"<Error><Code>AccessDenied</Code>", "an XML document"),
        (PLAIN[:60] + bytes(100), "no text.* CSV in UTF-8"),
    ],
)
def test_what_is_no_table_of_text_is_named_with_what_to_do(table, words):
    with pytest.raises(UserError, match=f"table.csv: .*{words}"):
        read_rows(table, "table.csv")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32"])
def test_text_of_two_or_four_bytes_a_letter_with_or_without_a_mark(encoding):
    rows = read_rows((HEADER + "\nä.png,PLAX,,\n").encode(encoding), "t")
    assert rows == [{"FILENAME": "ä.png", "VIEW-APP": "PLAX", "CONDITION": "", "SEVERITY": ""}]


@pytest.mark.parametrize("blank", ["\n", "\r\n \r\n", ",,,,\n\n", '"",,,,\n', "\nsep=,\n"])
def test_blank_lines_are_skipped_the_first_ones_too(blank):
    text = f"{blank}{HEADER},USER\n{blank.replace('sep=,', '')}a.png,PLAX,,,x\n\n,,,,\nb.png,PSAX,,,\n"
    rows = read_rows(text.encode(), "t")
    assert [row["FILENAME"] for row in rows] == ["a.png", "b.png"]
    assert rows[1].line == text[: text.index("b.png")].count("\n") + 1


@pytest.mark.parametrize(
    "header",
    [
        "File Name,View App,condition,Severity",
        "file_name,VIEW_APP,Condition ,SEVERITY",
        "FILE-NAME,viewapp,CONDITION,severity",
        "File\u2010Name,View\u2013App,Condition:,Severity.",
        "file/name,VIEW.APP,CONDITION,(Severity)",
    ],
)
def test_blanks_signs_and_case_in_headers_are_alike(header):
    assert read_rows((header.replace(",", "|") + "\na.png|PLAX||\n").encode(), "t")[0]["VIEW-APP"] == "PLAX"
    (row,) = read_rows((header + ",Patient,Time Stamp,Other Column\na.png,PLAX,,,P,,\n").encode(), "t")
    assert list(row) == [
        "FILENAME",
        "VIEW-APP",
        "CONDITION",
        "SEVERITY",
        "PATIENT",
        "TIMESTAMP",
        "OTHER COLUMN",
    ]
    with pytest.raises(UserError, match="FILENAME stands there more than once"):
        read_rows(f"{header},File  Name\na.png,,,,\n".encode(), "t")


@pytest.mark.parametrize(
    ("of_one", "of_others", "words"), [(8, 0, "8 of 8"), (8, 8, "8 of 16"), (8, 9, ""), (3, 0, "")]
)
def test_one_identifier_for_most_dicom_files_is_warned_of(caplog, of_one, of_others, words):
    files = [f"{L}/{n:02d}.dcm" for n in range(of_one + of_others)]
    hashed = {file: "0123" if n < of_one else f"{n}" for n, file in enumerate(files)}
    known = LabelledFiles(files, files, (L, U), hashed)
    labels = read_labels(f"{HEADER}\n00.dcm,PLAX,,\n".encode(), "t", known)
    assert labels.patients == [f"dicom-{patient}" for patient in hashed.values()]
    assert [words in message for message in caplog.messages] == [True] * bool(words)
    assert "0123" not in caplog.text
    caplog.clear()
    rows = "".join(f"{n:02d}.dcm,PLAX,,,P{n % 4}\n" for n in range(of_one))
    labels = read_labels(f"{HEADER},PATIENT\n{rows}".encode(), "t", known)
    assert labels.patients[:of_one] == [f"P{n % 4}" for n in range(of_one)], "the table wins"
    assert not any("one and the same" in message for message in caplog.messages)


@pytest.mark.parametrize("title", ["PATIENT ID", "Patient_ID", "patient-id", "PatientID", " patient  id "])
def test_a_column_of_patients_identifiers_is_that_of_the_patients(title):
    rows = "a_frame1.png,PLAX,,,P1\nb_frame1.png,PSAX,,,P2\n"
    _, labels = read(rows, ["a_frame1.png", "b_frame1.png"], header=f"{HEADER},{title}")
    assert labels.patients == ["P1", "P2"]
    (row,) = read_rows(f"Filename,{title}\na.png,P1\n".encode(), "t", required_columns=PATIENT_TABLE_COLUMNS)
    assert row["PATIENT"] == "P1"
    both = read_rows(f"{HEADER},PATIENT,{title}\na.png,PLAX,,,Ann,17\n".encode(), "t")
    assert both[0]["PATIENT"] == "Ann", "the column of the contract comes first"
    with pytest.raises(UserError, match="PATIENT stands there more than once"):
        read_rows(f"{HEADER},{title},patient_id\na.png,PLAX,,,Ann,17\n".encode(), "t")


def test_an_identifier_of_several_patients_of_the_table_is_of_nobody_and_the_table_wins(caplog):
    files = [f"{L}/{letter}.dcm" for letter in "abc"] + [f"{U}/d.dcm"]
    table = f"{HEADER},PATIENT\na.dcm,PLAX,,,Ann\nb.dcm,PSAX,,,Bob\nc.dcm,PSAX,,,Ann\n".encode()
    hashed = dict.fromkeys(files, "0123")
    labels = read_labels(table, "t", LabelledFiles(files, files[:3], (L, U), hashed))
    assert labels.patients == ["Ann", "Bob", "Ann", ""] and labels.ambiguous_patients == []
    (log,) = caplog.messages
    assert "1 patient identifiers" in log and "one of them by 2: " in log and "1 files with such" in log
    assert not any(secret in log for secret in ("0123", "Ann", "Bob"))


def test_marked_cells_of_a_table_are_read_as_they_were():
    rows = read_rows(f"{HEADER}\n'-7_frame1.png,'=PLAX,'+ve,'mild\n".encode(), "t")
    assert list(rows[0].values()) == ["-7_frame1.png", "=PLAX", "+ve", "'mild"]


def test_a_line_of_megabytes_is_refused_before_it_is_decoded():
    table = PLAIN + b"b.png," + b"x" * (8 << 20) + b",,\n"
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="line 3 has more than 1048576 bytes"):
            read_rows(table, "table.csv")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_a_large_cell_of_many_lines_is_refused():
    with pytest.raises(UserError, match="field larger.* quotation mark"):
        read_rows(PLAIN + b'b.png,"' + b"x\n" * 100_000 + b'",,\n', "table.csv")


def test_a_file_that_is_larger_than_any_table_is_not_read(tmp_path):
    path = tmp_path / "table.csv"
    with path.open("wb") as stream:
        stream.truncate(2**27 + 1)  # a hole: takes no disk
    with pytest.raises(UserError, match="--labels-csv t: has 134217729 bytes, a table at most"):
        read_table_bytes(path, "--labels-csv t")


def test_lines_may_end_as_on_old_systems_and_be_many():
    rows = read_rows(HEADER.encode() + b"\r" + b"a_frame1.png,PLAX,,\r" * 60_000, "t")
    assert len(rows) == 60_000
