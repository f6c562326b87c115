"""The patient of each file: of a table, or of the header of a DICOM file."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from simclr_rhd.data.labels.table import PATIENT_COLUMN
from simclr_rhd.data.splits.groups import HASHED_PREFIX, is_anonymous_id

logger = logging.getLogger("simclr_rhd")

MIN_PLACEHOLDER_FILES = 4  # DICOM files of one identifier, if they are half of all


def make_patient_parser(cells: Sequence[str]) -> Callable[[str], set[str]]:
    """A function from a cell to its patient: none if empty; 'P01' and ' p01' are one, as first spelled."""
    spelling: dict[str, str] = {}
    for cell in cells:
        spelling.setdefault(" ".join(cell.split()).casefold(), " ".join(cell.split()))

    def read(cell: str) -> set[str]:
        name = spelling[" ".join(cell.split()).casefold()]
        return set() if is_anonymous_id(name, typed=True) else {name}

    return read


def dicom_patients(hashes: Mapping[str, str], table_patients: Mapping[str, str]) -> dict[str, str]:
    """Patients of DICOM files by file, without those whose files have several patients in the table.

    Such an identifier is a placeholder, or that of a device: the table wins.
    """
    hashed = {file: HASHED_PREFIX + patient for file, patient in hashes.items()}
    patients_of = defaultdict[str, set[str]](set)
    for file, identifier in hashed.items():
        patients_of[identifier] |= {table_patients[file]} if file in table_patients else set()
    used = {file: identifier for file, identifier in hashed.items() if len(patients_of[identifier]) < 2}
    alike = Counter(used.values()).most_common(1)
    if alike and alike[0][1] >= MIN_PLACEHOLDER_FILES and 2 * alike[0][1] >= len(used):
        logger.warning(
            "WARNING %d of %d DICOM files have one and the same patient identifier: they count as one "
            "patient, whose files are all in one part of the split. If it identifies a device or a site, "
            "name the patients in a column %s, or in a table for --patients-csv",
            *(alike[0][1], len(hashed), PATIENT_COLUMN),
        )
    if several := [patients for patients in patients_of.values() if len(patients) > 1]:
        logger.warning(
            "WARNING %d patient identifiers in DICOM files are shared by several patients of the table, one "
            "of them by %d: the table is used, and %d files with such an identifier have no patient in it",
            *(len(several), max(map(len, several)), len(hashed.keys() - used.keys() - table_patients.keys())),
        )
    return used
