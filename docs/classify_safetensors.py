"""Classify 8-bit frames with torchvision and safetensors: python3 classify_safetensors.py FILE FRAME..."""

import json
import sys

import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.v2.functional import normalize, pil_to_tensor, resize

with safe_open(sys.argv[1], framework="pt") as file:
    facts = json.loads(file.metadata()["simclr_rhd"])
    tensors = {name: file.get_tensor(name) for name in file.keys()}
prepared = facts["preprocessing"]
encoder = resnet18()
encoder.fc = torch.nn.Identity()
own = {name.removeprefix("encoder."): x for name, x in tensors.items() if name.startswith("encoder.")}
encoder.load_state_dict(own)
stages = create_feature_extractor(encoder.eval(), ["layer1", "layer2", "layer3", "layer4"])
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")  # Pillow knows more: PostScript starts Ghostscript


@torch.inference_mode()
def classify(frame: Image.Image) -> dict[str, torch.Tensor]:
    """{task: probabilities of its classes} of an RGB frame."""
    square = ImageOps.pad(frame, (prepared["stored_side"],) * 2, Image.Resampling.BILINEAR)  # black around it
    view = resize(pil_to_tensor(square)[None] / 255, [prepared["image_size"]] * 2, antialias=True)
    maps = stages(normalize(view, prepared["mean"], prepared["std"]))
    features = torch.cat([x.mean(dim=(2, 3)) for x in maps.values()], dim=1)[0]
    seen = (features[-len(tensors["heads.mean"]) :] - tensors["heads.mean"]) / tensors["heads.std"]
    biases = tensors["heads.bias"].split([len(names) for names in facts["classes"].values()])
    probabilities = {}
    for task, bias, temperature in zip(facts["classes"], biases, tensors["heads.temperature"], strict=True):
        linear = tensors[f"heads.linear.{task}.weight"], tensors[f"heads.linear.{task}.bias"]
        logits = torch.nn.functional.linear(seen, *linear) / temperature + bias
        probabilities[task] = logits.sigmoid() if task in facts["multilabel"] else logits.softmax(dim=0)
    return probabilities


for path in sys.argv[2:]:
    print(path)
    image = ImageOps.exif_transpose(Image.open(path, formats=FORMATS)).convert("RGB")
    for task, p in classify(image).items():
        for name, probability in zip(facts["classes"][task], p.tolist(), strict=True):
            print(f"    {task}: {name} {probability:.4f}")
