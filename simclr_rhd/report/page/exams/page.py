"""The page of `predict` for the reader of exams, in one file."""

import time
from pathlib import Path

from simclr_rhd.core.errors import UserError
from simclr_rhd.inference.prediction.exams import ExamCollector
from simclr_rhd.inference.prediction.predict_files import PredictionRun
from simclr_rhd.report.page.exams.sections import MAX_VIDEOS, make_sections
from simclr_rhd.report.page.exams.sentences import limitations, reading_notes
from simclr_rhd.report.page.webpage import write_page
from simclr_rhd.report.wording import SYNTHETIC_WARNING, format_count


def write_exam_page(path: Path, run: PredictionRun, collector: ExamCollector, *, tables: Path) -> None:
    """Write one self-contained page; nothing is fetched, and all names are escaped.

    Patients and files are named as in the tables, so its owner alone may read it.

    Args:
        path: the page.
        run: that is over.
        collector: of its frames.
        tables: the table of the frames.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_page(
            path,
            "exams.html",
            private=True,
            exams=make_sections(collector.exams(run), run),
            tasks=list(run.model.classes),
            questions=[f"screening, {test.question.name}" for test in run.model.net.screening],
            n_left_out=collector.n_left_out,
            n_rejected=len(run.reader.rejected),
            synthetic_warning=SYNTHETIC_WARNING if run.model.facts.synthetic else "",
            reading_notes=reading_notes(run),
            limitations=limitations(run),
            tables=tables.name,
            written=time.strftime("%Y-%m-%d"),
            format_count=format_count,
            max_videos=MAX_VIDEOS,
        )
    except OSError as error:
        raise UserError(f"--html {path}: cannot be written ({error.strerror}); name another file") from None
