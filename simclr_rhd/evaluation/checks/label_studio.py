"""Frames whose labels are in doubt, for Label Studio: tasks with pre-annotations, and the labelling page.

The formats are those of https://labelstud.io/guide/predictions and https://labelstud.io/tags/choices. An
image is referred to as Label Studio's storages have it: `gs://BUCKET/...` of a bucket, and
`/data/local-files/?d=...` of a file below its LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, which is to be the
folder that --data names.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote
from xml.etree import ElementTree

from simclr_rhd.data.decoding.file_types import STILL, file_type
from simclr_rhd.data.labelled_set import LabelledSet
from simclr_rhd.data.labels.vocabulary import LESION_SEPARATOR, NO_LESION, format_label
from simclr_rhd.data.sources.remote import scheme_of

MODEL_VERSION = "simclr-rhd"
IMAGE = "image"  # name of the image on the labelling page, and of its address in a task
NOT_ANNOTATED = "not annotated"


@dataclass(frozen=True)
class PreAnnotation:
    """A prediction that a reader shall look at.

    Attributes:
        row: of the frame, among the labelled ones.
        task: of the prediction.
        predicted: the class, or the lesions, as `vocabulary.format_label` writes them.
        score: its probability.
    """

    row: int
    task: str
    predicted: str
    score: float


def pre_annotated_tasks(
    labelled_set: LabelledSet, annotations: Iterable[PreAnnotation], data: str
) -> list[dict[str, object]]:
    """Tasks of Label Studio, one a frame, in the order of the pre-annotations; several of a frame together.

    The labels of the table stand beside the image as `label_<task>`. Frames of clips and DICOM files are left
    out: they are no files that Label Studio could show.

    Args:
        labelled_set: the frames.
        annotations: their predictions.
        data: the place that --data names.
    """
    by_row: dict[int, list[PreAnnotation]] = {}
    for annotation in annotations:
        if file_type(labelled_set.paths[annotation.row]) == STILL:
            by_row.setdefault(annotation.row, []).append(annotation)
    multiple = _multiple_choice(labelled_set)
    labels, names = labelled_set.target_values(), labelled_set.outputs()
    return [
        {
            "data": {
                IMAGE: image_address(data, labelled_set.paths[row]),
                "path": labelled_set.paths[row],
                "group": str(labelled_set.groups[row]),
                **{
                    _label_key(task): format_label(labels[task][row], names[task]) or NOT_ANNOTATED
                    for task in names
                },
            },
            "predictions": [
                {
                    "model_version": MODEL_VERSION,
                    "score": of_row[0].score,
                    "result": [_result(one, multiple=one.task in multiple) for one in of_row],
                }
            ],
        }
        for row, of_row in by_row.items()
    ]


def _result(annotation: PreAnnotation, *, multiple: bool) -> dict[str, object]:
    predicted = annotation.predicted
    choices = predicted.split(LESION_SEPARATOR) if multiple else [predicted]
    return {
        "from_name": annotation.task,
        "to_name": IMAGE,
        "type": "choices",
        "value": {"choices": choices},
    }


def image_address(data: str, path: str) -> str:
    """The address of a frame's file for Label Studio.

    Args:
        data: the place that --data names.
        path: of the file, below it.
    """
    if scheme_of(data):
        return f"{data.rstrip('/')}/{path}"
    return f"/data/local-files/?d={quote(path)}"


def labelling_config(labelled_set: LabelledSet) -> str:
    """The labelling configuration that fits the tasks: an image, and for each task the choice of a class.

    Lesions may be chosen together. The label of the table stands above the choices.
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}", zoom="true")
    multiple = _multiple_choice(labelled_set)
    for task, names in labelled_set.outputs().items():
        ElementTree.SubElement(view, "Header", value=f"{task}; label of the table: ${_label_key(task)}")
        kind = "multiple" if task in multiple else "single"
        choices = ElementTree.SubElement(view, "Choices", name=task, toName=IMAGE, choice=kind)
        choices.set("showInline", "true")
        for name in [*names, NO_LESION] if task in multiple else names:
            ElementTree.SubElement(choices, "Choice", value=name)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _label_key(task: str) -> str:
    """The key of a task's label in the data of a frame."""
    return f"label_{task}"


def _multiple_choice(labelled_set: LabelledSet) -> frozenset[str]:
    """The tasks of which several lesions may be chosen."""
    return frozenset(task for task in labelled_set.values if labelled_set.lesions(task))
