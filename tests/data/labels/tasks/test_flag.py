import pytest
from torch import nn

from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.labels.tasks.flag import RESERVED_NAMES, TASK_NAME, is_task_name, parse_tasks, tasks_text
from simclr_rhd.data.labels.vocabulary import DEFAULT_TASKS, VOCABULARY


def one(text):
    (task,) = parse_tasks(text)
    return task


def degrees(task):
    return [degree for scale in task.scales for degree in scale.degrees]


def test_the_default_is_todays_three_tasks():
    assert parse_tasks(DataConfig.tasks) == DEFAULT_TASKS
    assert DataConfig.tasks == "view=VIEW-APP,condition=CONDITION,severity=SEVERITY"


def test_the_issues_own_example():
    tasks = parse_tasks("view=VIEW-APP,condition=CONDITION,severity=SEVERITY,thickness=THICKNESS")
    assert tasks == (*DEFAULT_TASKS, VOCABULARY["thickness"])
    assert parse_tasks(" view , condition,severity,thickness ") == tasks, "known names need no column"


def test_a_column_of_the_users_own_has_classes_without_an_order():
    task = one("function=LV function")
    assert (task.name, task.column, degrees(task), task.multilabel) == ("function", "LV FUNCTION", [], False)
    assert task.known_class("notapplicable") == "Not Applicable"
    assert (one("LV_Function").name, one("LV_Function").column) == ("lv-function", "LV_FUNCTION")


@pytest.mark.parametrize("text", ["thick=THICKNESS=Not thick<Thick", "THICKNESS=Not thick<Thick"])
def test_degrees_are_in_the_order_given(text):
    task = one(text)
    assert degrees(task) == ["Not thick", "Thick"], "in the user's words"
    assert task.ordinal_classes(["Thick", "Not Applicable", "Not thick"]) == [2, 0]
    assert task.known_class("nothickening") == "Not thick", "with the spellings that are known"
    own = one("grade=GRADE=low<Middle grade<high")
    assert (
        degrees(own) == ["low", "Middle grade", "high"] and own.known_class("middlegrade") == "Middle grade"
    )
    turned = one("severity=SEVERITY=Severe<Mild<None")
    assert turned.ordinal_classes(["None", "Mild", "Severe", "Normal"]) == [2, 1, 0]
    assert turned.known_class("trace") == "Trivial", "other spellings are known still"
    assert turned.reads_none(["mild"])


def test_a_column_of_lists():
    lists = one("signs=SIGNS=[]")
    assert lists.multilabel and lists.known_class("amvlthickening") == "Anterior Mitral Leaflet Thickening"
    assert one("findings=NOTE=[]") == one("findings=NOTE"), "findings are lists"


def test_a_known_name_keeps_its_vocabulary_in_another_column_and_a_known_column_under_another_name():
    stages = one("severity=WHF stage")
    assert stages.column == "WHF STAGE" and stages.patterns == VOCABULARY["severity"].patterns
    grade = one("grade=severity")
    assert grade.name == "grade" and grade.scales == VOCABULARY["severity"].scales


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "wanted NAME=COLUMN"),
        ("view=", "'view=': wanted NAME=COLUMN"),
        ("view,,severity", "wanted NAME=COLUMN"),
        ("a=B=C", "'a=B=C': wanted NAME=COLUMN"),
        ("a=B=C<D=E", "wanted NAME=COLUMN"),
        ("=A<B", "wanted NAME=COLUMN"),
        ("a=B=C<", "a degree is empty"),
        ("a=B=C<c", "the degree 'c' stands there twice"),
        ("severity=SEVERITY=trace<trivial", "the degree 'trivial' stands there twice"),
        ("a/b=C", "'a/b': cannot be in the names of files; .* as in my-task=C"),
        ("../x=C", "cannot be in the names of files"),
        ("a_b=C", "cannot be in the names of files"),
        ("12", "'12': cannot be in the names of files"),
        (f"{'x' * 40}=C", "cannot be in the names of files"),
        ("simclr=C", "'simclr': is used by the program itself; .* my-simclr=C"),
        ("type=TYPE", "'type': is used by the program itself"),
        ("Patient=C", "used by the program itself"),
        ("who=patient id", "the column PATIENT ID has no labels"),
        ("file=FILENAME", "the column FILENAME has no labels"),
        ("a=X,A=Y", "2 tasks have the name 'a'"),
        ("a=LV X,b=lv-x", "2 tasks have the column 'lvx'"),
    ],
)
def test_mistakes_are_told_in_the_users_words(text, words):
    with pytest.raises(ValueError, match=words):
        parse_tasks(text)


@pytest.mark.parametrize(
    "text",
    [
        DataConfig.tasks,
        "thickness=THICKNESS,signs=SIGNS=[]",
        "grade=GRADE=low<Middle grade<high,function=LV FUNCTION",
        "severity=STAGE=Normal<Stage B<Stage A",
    ],
)
def test_the_text_of_tasks_makes_them_again(text):
    assert tasks_text(parse_tasks(text)) == text


def test_no_name_is_one_that_a_layer_of_heads_cannot_have():
    taken = {name for name in dir(nn.ModuleDict()) if TASK_NAME.fullmatch(name)}
    assert {name.casefold() for name in taken} <= RESERVED_NAMES
    assert is_task_name("thickness") and not is_task_name("keys") and not is_task_name(3)
