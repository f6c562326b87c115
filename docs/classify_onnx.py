"""Classify 8-bit frames with an exported model alone: python3 classify_onnx.py model.onnx FRAME..."""

import json
import sys

import numpy
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
facts = json.loads(session.get_modelmeta().custom_metadata_map["simclr_rhd"])
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")  # Pillow knows more: PostScript starts Ghostscript
size = (facts["side"], facts["side"])
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path, formats=FORMATS)).convert("RGB")
    frame = ImageOps.pad(image, size, Image.Resampling.BILINEAR)  # black around it
    outputs = session.run(None, {"frames": numpy.asarray(frame)[None]})
    values = dict(zip(facts["outputs"], outputs, strict=True))
    is_foreign = "novelty" in values and values["novelty"][0] > 1
    print(path, "(unlike what the model has learnt from)" if is_foreign else "")
    for task, names in facts["classes"].items():
        p = values[f"{task}_probabilities"][0]
        for name, probability in zip(names, p, strict=True):
            print(f"    {task}: {name} {probability:.2f}")
        odds = p / numpy.array(facts["prevalence"][task])  # the balanced choice
        predicted = odds >= 1 if task in facts["multilabel"] else odds == odds.max()
        shown = [name for name, chosen in zip(names, predicted, strict=True) if chosen]
        print("    predicted:", ", ".join(shown) or "none")
