"""Clips and DICOM files for tests, made here: of known pixels, and with a name that must never come out."""

import io
from types import SimpleNamespace

import numpy as np
from PIL import Image

from simclr_rhd.data.decoding.decode import DecodeOptions, FrameFile
from simclr_rhd.data.decoding.image import letterbox

SALT = b"salt"
PATIENT_NAME, PATIENT_ID = "Secretname^Person", "SECRET-4711"


def picture(height=48, width=64, seed=0):
    """Smooth random RGB, so that lossy formats keep it."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height)))


def encode_image(array, kind="PNG", **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def write_clip(path, frames, *, codec="mpeg4", pixels="yuv420p", aspect=None, times=None):
    """A clip of 25 frames a second.

    Args:
        path: its extension tells the container.
        frames: (H, W, 3) uint8.
        codec: FFmpeg's name of it.
        pixels: FFmpeg's name of their format.
        aspect: width of a pixel over its height; None for square ones that say nothing.
        times: when each frame is shown, in 25ths of a second; what is shown before 0 is cut off by an edit
            list. None for one after another.
    """
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        stream.codec_context.gop_size = 4
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        found = []
        for frame in frames:
            found += stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))
        found += stream.encode(None)
        for number, packet in enumerate(found):
            if times:
                packet.pts = packet.dts = times[number]
            container.mux(packet)


def write_gif(path, frames):
    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(path, "GIF", save_all=True, append_images=others)


def dicom_dataset(pixels, photometric="RGB", *, bits=8, region=None, frames=1, signed=False):
    """A DICOM data set of ultrasound, uncompressed."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    found.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    found.PatientName, found.PatientID = PATIENT_NAME, PATIENT_ID
    found.SOPClassUID = UltrasoundMultiFrameImageStorage
    found.Modality = "US"
    one = pixels[0] if frames > 1 else pixels
    found.Rows, found.Columns = one.shape[:2]
    found.SamplesPerPixel = 3 if one.ndim == 3 else 1
    found.PhotometricInterpretation = photometric
    found.BitsAllocated = 8 * pixels.dtype.itemsize
    found.BitsStored, found.HighBit, found.PixelRepresentation = bits, bits - 1, int(signed)
    if one.ndim == 3:
        found.PlanarConfiguration = 0
    if frames > 1:
        found.NumberOfFrames = frames
    if region:
        item = Dataset()
        item.RegionSpatialFormat, item.RegionDataType = 1, 1
        item.RegionLocationMinX0, item.RegionLocationMinY0 = region[:2]
        item.RegionLocationMaxX1, item.RegionLocationMaxY1 = region[2:]
        found.SequenceOfUltrasoundRegions = [item]
    found.PixelData = pixels.tobytes()
    return found


def save_dicom(dataset, path):
    dataset.save_as(path, enforce_file_format=True)


def decode(path, *, side=48, most=None, name=None, **options):
    """A file with all its frames decoded: `frames`, `reason`, `patient`."""
    file = FrameFile(name or path.name, path, DecodeOptions(side, most, **{"salt": SALT} | options))
    frames = list(file)
    return SimpleNamespace(frames=frames, reason=file.reason, patient=file.patient)


def assert_same_pixels(stored, rgb, tolerance=0):
    """Compare a stored frame with a picture that is brought to its size."""
    difference = np.abs(stored.pixels.astype(int) - letterbox(rgb, stored.pixels.shape[-1]).astype(int))
    assert difference.mean() <= tolerance, difference.mean()
