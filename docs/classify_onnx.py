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
    answers = session.run(None, {"frames": numpy.asarray(frame)[None]})
    found = dict(zip(facts["outputs"], answers, strict=True))
    strange = "novelty" in found and found["novelty"][0] > 1
    print(path, "(unlike what the model has learnt from)" if strange else "")
    for task, names in facts["classes"].items():
        p = found[f"{task}_probabilities"][0]
        for name, probability in zip(names, p, strict=True):
            print(f"    {task}: {name} {probability:.2f}")
        odds = p / numpy.array(facts["prevalence"][task])  # the balanced choice
        said = odds >= 1 if task in facts["multilabel"] else odds == odds.max()
        print("    said:", ", ".join(name for name, here in zip(names, said, strict=True) if here) or "none")
