"""Files of several patients to classify, and the page that `predict --html` writes of them."""

from echo_files import encode_image, picture
from random_model import write_model

import main


def write_exams(folder, patients, *, frames=4, name="v{patient}-{video}_frame{frame}.png"):
    """Frames of {patient: number of videos}, and `patients.csv`; a patient "" is not in the table."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, seed = ["FILENAME,PATIENT"], 0
    for number, (patient, videos) in enumerate(patients.items()):
        for video in range(videos):
            for frame in range(frames):
                seed += 1
                file = name.format(patient=number, video=video, frame=frame)
                (folder / file).write_bytes(encode_image(picture(seed=seed % 60)))
                if patient:
                    lines.append(f'"{file}",{patient}')
    table = folder.parent / "patients.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def predict_page(top, *, flags=(), model=None, patients_csv=None):
    """Run `predict --html` on `top/data`; the exit status. The files are `top/out.*`."""
    model = model or write_model(top / "model.pt")
    words = [str(top / "data"), "--model", str(model), "--out", str(top / "out.csv")]
    words += ["--html", str(top / "out.html"), "--cache-dir", str(top / "cache"), *flags]
    if patients_csv:
        words += ["--patients-csv", str(patients_csv)]
    return main.main(["predict", *words])
