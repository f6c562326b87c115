"""Facts of a run's data, for the items of reporting guidelines."""

from simclr_rhd.data.sources.remote import SCHEMES
from simclr_rhd.data.summary.flow import DataFlow
from simclr_rhd.evaluation.checks.leakage import NEAR_DUPLICATES_WARNING
from simclr_rhd.report.charts.flow_stages import flow_stages
from simclr_rhd.report.checklist.items import RunFacts
from simclr_rhd.report.summary import power_note
from simclr_rhd.report.wording import describe_readers, format_count


def source(facts: RunFacts) -> str:
    """Kind of the source, and the amount of the data."""
    data, counts = facts.run["data"], facts.counts
    kind = "Files of a bucket" if str(data["location"]).startswith(SCHEMES) else "Files of a folder"
    if facts.results.synthetic:
        kind = "SYNTHETIC data, drawn by this program"
    patients = f"{counts['patients']} known patients" if counts["patients"] else "no patient known"
    return (
        f"{kind}: {counts['frames']} frames of {counts['videos']} videos, {patients}; "
        f"{counts['labelled']} frames with a label. Fingerprint of the data: "
        f"{data.get('fingerprint', 'unknown')}."
    )


def flow(facts: RunFacts) -> str:
    """The flow from files to scored frames, in words."""
    picture = "Drawn in participant_flow.png. " if facts.figures else ""
    stages = flow_stages(DataFlow.from_record(facts.counts["flow"]), facts.results)
    boxes = [(*of.lines, *(f"{cell[0]} {', '.join(cell[1:])}" for cell in of.cells)) for of in stages]
    steps = [part for box, of in zip(boxes, stages, strict=True) for part in (box, of.left_out) if part]
    return picture + " ".join(f"{heading}: {'; '.join(rest)}." for heading, *rest in steps)


def exclusions(facts: RunFacts) -> str:
    """Files and labels that were left out, by reason."""
    data = DataFlow.from_record(facts.counts["flow"])
    reasons = "; ".join(f"{n} {reason}" for reason, n in data.left_out.items())
    files = f"{format_count(sum(data.left_out.values()), 'file')} left out" + f": {reasons}" * bool(reasons)
    classes = [
        f"{name}: {', '.join(result.missing_classes)}"
        for name, result in facts.results.targets.items()
        if result.missing_classes
    ]
    scored = f" Classes too rare to be evaluated: {'; '.join(classes)}." if classes else ""
    return f"{files}. All are in rejected.csv.{scored}"


def preparation(facts: RunFacts) -> str:
    """Preprocessing of a frame."""
    quality, per_clip = facts.counts["quality"], facts.setting("frames_per_clip")
    clips = "all frames" if per_clip in ("None", "-") else f"at most {per_clip} evenly spaced frames"
    return (
        f"Of a clip {clips} are read. A frame is resized with its aspect ratio, centred on a black square, "
        f"and seen by the network with {facts.setting('image_size')} pixels a side, its colours normalised "
        "by "
        f"ImageNet's mean and deviation. Quality: {quality['near_black']} near-black, "
        f"{quality['constant']} constant and {quality['duplicates']} duplicate frames were counted, not "
        "removed. The same for all frames."
    )


def missing(facts: RunFacts) -> str:
    """The handling of missing and contradictory labels."""
    data, conflicts = DataFlow.from_record(facts.counts["flow"]), facts.counts["conflicts"]
    return (
        f"Nothing is imputed. {data.unlabelled.frames} frames have no label and serve the pretraining "
        "only; a "
        "frame without a label of one task does not count for that task. Rows of one file disagreed "
        f"{format_count(conflicts['found'], 'time')}: {conflicts['settled']} settled by --label-conflict "
        f"{facts.setting('label_conflict')}, the others count as not labelled. Files that cannot be read are "
        "left out (rejected.csv)."
    )


def outcome(facts: RunFacts) -> str:
    """The tasks and their classes."""
    tasks = (f"{task}: {', '.join(of.classes) or 'no class'}" for task, of in facts.results.tasks.items())
    return f"Classes of a frame, from the label table. {'; '.join(tasks)}."


def readers(facts: RunFacts) -> str:
    """The agreement of the annotators."""
    known = [
        f"{task}: {describe_readers(of.readers)}" for task, of in facts.results.tasks.items() if of.readers
    ]
    return f"{'; '.join(known)}." if known else ""


def partition(facts: RunFacts) -> str:
    """The division of the labelled frames."""
    split = facts.results.split
    fold = "fold " * (split.folds > 1)
    parts = "; ".join(
        f"{fold}{name} {part['frames']} frames of {format_count(part['groups'], split.by)}"
        for name, part in split.parts.items()
    )
    kind = f"{split.folds}-fold cross-validation" if split.folds > 1 else "One split"
    return (
        f"{kind} by {split.by}, seed {facts.setting('seed')}; whole groups are assigned so that each class "
        "has "
        f"its share in each part: {parts}. The encoder was pretrained {split.pretraining}. split.csv has the "
        "part of each frame."
    )


def disjoint(facts: RunFacts) -> str:
    """The level at which the parts are apart, and what the leak audit found."""
    split, alike = facts.results.split, facts.results.audit.near_identical.found
    apart = f"No {split.by} is in two parts"
    if split.leaky:
        apart = "LEAKY: frames of one patient or video are learnt from and tested on"
    audit = (
        NEAR_DUPLICATES_WARNING % alike if alike else "no two frames of different parts look nearly identical"
    )
    return f"{apart}. Leak audit: {audit} (leak_audit.csv)."


def sample_size(facts: RunFacts) -> str:
    """Precision with the groups that were tested."""
    by = facts.results.split.by
    notes = (power_note(name, result, by) for name, result in facts.results.targets.items())
    return f"No size was planned by the program. {'; '.join(notes)}." if facts.results.targets else ""


def class_counts(facts: RunFacts) -> str:
    """Frames and groups of each class, in all and in each part."""
    by = facts.results.split.by
    texts = []
    for name, result in facts.results.targets.items():
        rows = []
        for of, counts in result.groups.items():
            parts = ", ".join(f"{f'{by}s' if key == 'groups' else key}: {n}" for key, n in counts.items())
            rows.append(f"{of} ({parts})")
        texts.append(f"{name}: {'; '.join(rows)}")
    return f"{'. '.join(texts)}." if texts else ""


def same_source(facts: RunFacts) -> str:
    """Differences between training and test data."""
    return "Training and test frames are parts of one data set, with the same classes and preparation."
