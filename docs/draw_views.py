"""Draws docs/views_<preset>.png: a frame of the built-in data and 16 of its views, for each `--augment`.

.venv/bin/python docs/draw_views.py
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from simclr_rhd.data.decoding.image import color_mode, decode_image, letterbox
from simclr_rhd.data.demo.dataset import write_demo
from simclr_rhd.report.charts import pretraining as plots_pretraining
from simclr_rhd.ssl.augment import eval_view, sample_view_params, to_uint8, two_views
from simclr_rhd.ssl.config import PRESETS

SIZE, VIEWS = 112, 16


def main():
    with tempfile.TemporaryDirectory() as folder:
        write_demo(Path(folder), patients=12)
        path = sorted(Path(folder).rglob("*_frame*.png"))[40]
        frame = letterbox(decode_image(path.read_bytes()), SIZE * 8 // 7)[None]
    kind = torch.tensor([color_mode(frame[0])], dtype=torch.uint8)
    shown = torch.from_numpy(np.repeat(frame, VIEWS // 2, axis=0))
    view_params = torch.cat([sample_view_params(0, epoch, np.arange(1))[0] for epoch in range(VIEWS // 2)])
    for name, strengths in PRESETS.items():
        views = two_views(shown, kind.expand(len(shown)), view_params, size=SIZE, augment_config=strengths)
        plots_pretraining.plot_views(
            ROOT / "docs" / f"views_{name}.png",
            to_uint8(eval_view(torch.from_numpy(frame), size=SIZE))[0],
            to_uint8(views),
            note=f"--augment {name}: {strengths}",
        )


if __name__ == "__main__":
    main()
