import json

import pytest

from simclr_rhd.runs.outputs import clear, clear_pictures, is_output, list_outputs


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("umap_view.png", True),
        ("confusion_matrix_lv-function.png", True),
        ("classifier_thickness_loss.png", True),
        ("confusion_matrix_../x.png", False),
        ("confusion_matrix_.png", False),
        ("fold-1/confusion_matrix_view.png", False),
        ("fold-1/history.jsonl", True),
        ("umap_simclr.png", False),
        ("notes.txt", False),
    ],
)
def test_pictures_of_tasks_of_any_name_are_written(name, written):
    assert is_output(name) is written


def write(folder, *names, tasks=None):
    for name in names:
        (folder / name).write_bytes(b"x")
    config = {} if tasks is None else {"tasks": tasks}
    (folder / "run.json").write_text(json.dumps({"config": config}))


def test_a_new_run_removes_the_pictures_of_the_earlier_runs_tasks_and_no_file_of_the_users(tmp_path):
    write(tmp_path, "umap_view.png", "umap_thickness.png", "comparison_mine.png", tasks="view,thickness")
    assert "umap_thickness.png" in list_outputs(tmp_path)
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison_mine.png"]


def test_another_evaluation_removes_the_pictures_alone(tmp_path):
    write(tmp_path, "umap_view.png", "screening_2.png", "simclr_best.pt", "mine.png", tasks="view")
    clear_pictures(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.png", "run.json", "simclr_best.pt"]


@pytest.mark.parametrize("tasks", [None, 3, "../x=Y"])
def test_a_record_without_tasks_or_with_others_leaves_the_default_ones(tmp_path, tasks):
    write(tmp_path, "umap_view.png", "comparison_mine.png", tasks=tasks)
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison_mine.png"]


def test_what_trackers_of_this_machine_have_is_removed_but_not_copied_to_a_bucket(tmp_path):
    write(tmp_path, "trackers.json")
    assert list_outputs(tmp_path) == ["run.json"]
    clear(tmp_path)
    assert list(tmp_path.iterdir()) == []
