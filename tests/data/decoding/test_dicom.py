"""DICOM files: every frame with the right pixels, and no name of a patient anywhere."""

import logging

import numpy as np
import pytest
from echo_files import (
    PATIENT_ID,
    PATIENT_NAME,
    assert_same_pixels,
    decode,
    dicom_dataset,
    encode_image,
    picture,
    save_dicom,
    write_clip,
)
from PIL import Image

pytest.importorskip("av", reason="PyAV is missing: pip install -r requirements-dev.txt")
pytest.importorskip("pydicom", reason="pydicom is missing: pip install -r requirements-dev.txt")


@pytest.mark.parametrize("name", ["f.dcm", "IM_0001", "1.2.840.113619"])
def test_a_dicom_file_is_known_by_what_it_is(tmp_path, name):
    save_dicom(dicom_dataset(picture()), tmp_path / name)
    (stored,) = decode(tmp_path / name).frames
    assert stored.number is None
    assert_same_pixels(stored, picture())


def test_a_file_without_extension_that_is_not_dicom_was_never_a_frame(tmp_path):
    (tmp_path / "README").write_text("hello" * 99)
    assert decode(tmp_path / "README").reason == "not a frame: no extension"


def test_grey_and_inverted_and_deep_pixels(tmp_path):
    grey = picture()[..., 0]
    for photometric, wanted in (("MONOCHROME2", grey), ("MONOCHROME1", 255 - grey)):
        save_dicom(dicom_dataset(grey, photometric), tmp_path / "g.dcm")
        assert_same_pixels(decode(tmp_path / "g.dcm").frames[0], np.repeat(wanted[..., None], 3, axis=2))
    deep = (grey.astype(np.uint16) * 16 + 8).clip(0, 4095)
    save_dicom(dicom_dataset(deep, "MONOCHROME2", bits=12), tmp_path / "d.dcm")
    assert_same_pixels(
        decode(tmp_path / "d.dcm").frames[0], np.repeat(grey[..., None], 3, axis=2), tolerance=1
    )
    signed = (grey.astype(np.int16) - 128) * 256
    save_dicom(dicom_dataset(signed, "MONOCHROME2", bits=16, signed=True), tmp_path / "s.dcm")
    assert_same_pixels(
        decode(tmp_path / "s.dcm").frames[0], np.repeat(grey[..., None], 3, axis=2), tolerance=1
    )


def test_ybr_and_palette_become_rgb(tmp_path):
    from pydicom.pixels import convert_color_space

    save_dicom(
        dicom_dataset(convert_color_space(picture(), "RGB", "YBR_FULL"), "YBR_FULL"), tmp_path / "y.dcm"
    )
    assert_same_pixels(decode(tmp_path / "y.dcm").frames[0], picture(), tolerance=2)
    index = (picture()[..., 0] // 64).astype(np.uint8)
    colours = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    found = dicom_dataset(index, "PALETTE COLOR")
    for number, name in enumerate(("Red", "Green", "Blue")):
        setattr(found, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = colours[:, number].astype(np.uint16) * 257
        setattr(found, f"{name}PaletteColorLookupTableData", table.tobytes())
    save_dicom(found, tmp_path / "p.dcm")
    done = decode(tmp_path / "p.dcm")
    assert_same_pixels(done.frames[0], colours[index])


@pytest.mark.parametrize("compression", ["raw", "RLE", "JPEG"])
def test_cine_loops_raw_and_compressed(tmp_path, compression):
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, RLELossless

    frames = np.stack([picture(seed=number) for number in range(6)])
    found = dicom_dataset(frames, frames=6)
    if compression == "RLE":
        found.compress(RLELossless)
    elif compression == "JPEG":
        found.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        found.PhotometricInterpretation = "YBR_FULL_422"
        found.PixelData = encapsulate([encode_image(frame, "JPEG", quality=95) for frame in frames])
        found["PixelData"].is_undefined_length = True
    save_dicom(found, tmp_path / "cine.dcm")
    done = decode(tmp_path / "cine.dcm")
    assert [frame.number for frame in done.frames] == list(range(6)) and done.reason == ""
    for stored, frame in zip(done.frames, frames, strict=True):
        assert_same_pixels(stored, frame, tolerance=4 if compression == "JPEG" else 0)
    assert [frame.number for frame in decode(tmp_path / "cine.dcm", most=2).frames] == [0, 5]


def test_the_banner_around_the_ultrasound_region_is_cut_off(tmp_path):
    rgb = picture().copy()
    rgb[:10] = 255  # the banner with a name
    save_dicom(dicom_dataset(rgb, region=(4, 12, 59, 43)), tmp_path / "r.dcm")
    assert_same_pixels(decode(tmp_path / "r.dcm").frames[0], rgb[12:44, 4:60])
    save_dicom(dicom_dataset(rgb, region=(4, 12, 500, 43)), tmp_path / "r.dcm")
    assert_same_pixels(decode(tmp_path / "r.dcm").frames[0], rgb[12:44, 4:])
    save_dicom(dicom_dataset(rgb, region=(400, 300, 500, 350)), tmp_path / "r.dcm")
    done = decode(tmp_path / "r.dcm")
    assert done.frames == [] and "regions lie outside" in done.reason, "rather no frame than a name"


@pytest.mark.parametrize(
    ("ratio", "width", "height"),
    [
        (("3", "4"), 75, 32),
        (("2", "1"), 56, 64),
        (("1", "1"), 56, 32),
        (("1", "99"), 56, 32),
        (("0", "1"), 56, 32),
    ],
)
@pytest.mark.parametrize("compression", ["raw", "RLE"])
def test_the_pixels_of_a_dicom_file_are_made_square(tmp_path, ratio, width, height, compression):
    """The header tells the height of a pixel first, then its width."""
    from pydicom.uid import RLELossless

    frames = np.stack([picture(seed=seed) for seed in range(2)])
    found = dicom_dataset(frames, frames=2, region=(4, 12, 59, 43))
    found.PixelAspectRatio = list(ratio)
    if compression == "RLE":
        found.compress(RLELossless)
    save_dicom(found, tmp_path / "a.dcm")
    done = decode(tmp_path / "a.dcm")
    assert done.reason == "" and len(done.frames) == 2
    cut = Image.fromarray(frames[1][12:44, 4:60]).resize((width, height))
    assert_same_pixels(done.frames[1], np.asarray(cut), tolerance=1)


@pytest.mark.parametrize("ratio", [[], ["3"], ["3", "4", "5"], ["x", "y"]])
def test_a_pixel_aspect_that_is_none_makes_no_file_damaged(tmp_path, ratio):
    found = dicom_dataset(picture())
    found.add_new(0x00280034, "SH", ratio)
    save_dicom(found, tmp_path / "a.dcm")
    assert_same_pixels(decode(tmp_path / "a.dcm").frames[0], picture())


def test_pixels_made_square_are_counted_against_max_pixels(tmp_path):
    found = dicom_dataset(picture())
    found.PixelAspectRatio = ["4", "1"]
    save_dicom(found, tmp_path / "a.dcm")
    done = decode(tmp_path / "a.dcm", max_pixels=2 * 48 * 64)
    assert done.frames == [] and "too large (64x192)" in done.reason


def test_a_patient_is_a_salted_hash_and_nothing_else(tmp_path, caplog, recwarn):
    found = dicom_dataset(picture())
    found.add_new(0x00101000, "LO", PATIENT_NAME * 9)  # too long: a reader may warn, and quote it
    save_dicom(found, tmp_path / "a.dcm")
    save_dicom(dicom_dataset(picture(seed=3)), tmp_path / "b.dcm")
    with caplog.at_level(logging.DEBUG):
        one, other = decode(tmp_path / "a.dcm"), decode(tmp_path / "b.dcm")
    assert one.patient == other.patient and len(one.patient) == 16
    salted = decode(tmp_path / "a.dcm", salt=b"other")
    assert salted.patient != one.patient
    for text in (repr(one.patient), caplog.text, *(str(warning.message) for warning in recwarn)):
        assert "secret" not in text.lower() and PATIENT_ID not in text


def compressed(frames, syntax, photometric, *, table=True):
    """A DICOM data set of frames that are encoded already."""
    from pydicom.encaps import encapsulate

    found = dicom_dataset(np.stack([picture()] * 2), frames=2)
    found.NumberOfFrames = len(frames)
    found.file_meta.TransferSyntaxUID, found.PhotometricInterpretation = syntax, photometric
    found.PixelData = encapsulate(frames, has_bot=table)
    found["PixelData"].is_undefined_length = True
    return found


def bare_jpeg(rgb, **options):
    """A JPEG in YCbCr whose colours no marker tells."""
    data = encode_image(rgb, "JPEG", quality=95, **options)
    assert data[2:4] == b"\xff\xe0"
    return data[:2] + data[20:]


@pytest.mark.parametrize("number", [None, 0, -1, 1, 3])
@pytest.mark.parametrize("kind", ["raw", "JPEG", "JPEG without a table", "RLE"])
def test_frames_of_a_dicom_file_are_counted(tmp_path, kind, number):
    from pydicom.uid import JPEGBaseline8Bit, RLELossless

    frames = [picture(seed=seed) for seed in range(6)]
    if kind.startswith("JPEG"):
        coded = [encode_image(frame, "JPEG", quality=95) for frame in frames]
        found = compressed(coded, JPEGBaseline8Bit, "YBR_FULL_422", table=kind == "JPEG")
    else:
        found = dicom_dataset(np.stack(frames), frames=6)
        if kind == "RLE":
            found.compress(RLELossless)
    found.NumberOfFrames = number
    if number is None:
        del found.NumberOfFrames
    save_dicom(found, tmp_path / "f.dcm")
    done = decode(tmp_path / "f.dcm")
    assert done.reason == "" and [frame.number for frame in done.frames] == list(range(6))
    for stored, frame in zip(done.frames, frames, strict=True):
        assert_same_pixels(stored, frame, tolerance=4)
    assert [frame.number for frame in decode(tmp_path / "f.dcm", most=2).frames] == [0, 5]


def test_a_header_that_promises_more_frames_than_there_are(tmp_path):
    found = dicom_dataset(np.stack([picture()] * 2), frames=2)
    found.NumberOfFrames = 2**31 - 1
    save_dicom(found, tmp_path / "f.dcm")
    done = decode(tmp_path / "f.dcm")
    assert len(done.frames) == 2 and "promises 2147483647 frames, the file holds 2" in done.reason


@pytest.mark.parametrize("subsampling", [1, 2])
def test_an_rgb_header_on_a_subsampled_jpeg_is_not_believed(tmp_path, subsampling):
    from pydicom.uid import JPEGBaseline8Bit

    found = compressed([bare_jpeg(picture(), subsampling=subsampling)], JPEGBaseline8Bit, "RGB")
    save_dicom(found, tmp_path / "f.dcm")
    assert_same_pixels(decode(tmp_path / "f.dcm").frames[0], picture(), tolerance=4)


@pytest.mark.parametrize("photometric", ["YBR_ICT", "YBR_RCT", "YBR_PARTIAL_422", "MONOCHROME2"])
def test_a_colour_jpeg_is_ycbcr_whatever_else_than_rgb_the_header_says(tmp_path, photometric):
    from pydicom.uid import JPEGBaseline8Bit

    coded = [encode_image(picture(seed=seed), "JPEG", quality=95, subsampling=0) for seed in range(2)]
    save_dicom(compressed(coded, JPEGBaseline8Bit, photometric), tmp_path / "j.dcm")
    assert_same_pixels(decode(tmp_path / "j.dcm").frames[1], picture(seed=1), tolerance=4)


@pytest.mark.parametrize(("channels", "samples", "photometric"), [(1, 3, "RGB"), (3, 1, "MONOCHROME2")])
def test_a_jpeg_of_other_channels_than_the_header_says(tmp_path, channels, samples, photometric):
    from pydicom.uid import JPEGBaseline8Bit

    rgb = picture() if channels == 3 else np.repeat(picture()[..., :1], 3, axis=2)
    coded = encode_image(rgb if channels == 3 else rgb[..., 0], "JPEG", quality=95)
    found = compressed([coded, coded], JPEGBaseline8Bit, photometric)
    found.SamplesPerPixel = samples
    save_dicom(found, tmp_path / "j.dcm")
    done = decode(tmp_path / "j.dcm")
    assert done.reason == ""
    assert_same_pixels(done.frames[1], rgb, tolerance=4)


def test_colours_whose_order_the_header_does_not_say_stand_by_pixel(tmp_path):
    found = dicom_dataset(np.stack([picture(seed=seed) for seed in range(2)]), frames=2)
    del found.PlanarConfiguration
    save_dicom(found, tmp_path / "p.dcm")
    done = decode(tmp_path / "p.dcm")
    assert done.reason == ""
    assert_same_pixels(done.frames[1], picture(seed=1))


def test_compressed_pixels_that_the_header_calls_raw_are_no_noise(tmp_path):
    from pydicom.uid import ExplicitVRLittleEndian

    coded = [
        encode_image(np.random.default_rng(n).integers(0, 256, (48, 64, 3), np.uint8), "JPEG")
        for n in range(6)
    ]
    found = compressed(coded, ExplicitVRLittleEndian, "YBR_FULL_422")
    found["PixelData"].is_undefined_length = False
    save_dicom(found, tmp_path / "j.dcm")
    done = decode(tmp_path / "j.dcm")
    assert done.frames == [] and "a header that does not say how" in done.reason


def test_a_deflated_file(tmp_path):
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    frames = np.stack([picture(seed=seed) for seed in range(3)])
    found = dicom_dataset(frames, frames=3)
    found.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    save_dicom(found, tmp_path / "f.dcm")
    done = decode(tmp_path / "f.dcm")
    assert done.reason == "" and len(done.patient) == 16
    for stored, frame in zip(done.frames, frames, strict=True):
        assert_same_pixels(stored, frame)


@pytest.mark.parametrize("name", ["f.dcm", "IM_0001"])
@pytest.mark.parametrize(
    "syntax", ["ImplicitVRLittleEndian", "ExplicitVRLittleEndian", "ExplicitVRBigEndian"]
)
@pytest.mark.parametrize("meta", [True, False])
def test_a_file_without_a_preamble(tmp_path, name, syntax, meta):
    import pydicom

    found = dicom_dataset(picture())
    found.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    found["PixelData"].VR = "OB"
    save_dicom(found, tmp_path / "whole")
    begin = (
        132 if meta else 144 + pydicom.dcmread(tmp_path / "whole").file_meta.FileMetaInformationGroupLength
    )
    (tmp_path / name).write_bytes((tmp_path / "whole").read_bytes()[begin:])
    done = decode(tmp_path / name)
    assert done.reason == "" and len(done.patient) == 16
    assert_same_pixels(done.frames[0], picture())


def test_a_jpeg_of_12_bits_is_not_called_damaged(tmp_path):
    from pydicom.uid import JPEGExtended12Bit

    data = bytearray(encode_image(picture()[..., 0], "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    found = compressed([bytes(data)], JPEGExtended12Bit, "MONOCHROME2")
    found.BitsAllocated, found.BitsStored, found.HighBit, found.SamplesPerPixel = 16, 12, 11, 1
    save_dicom(found, tmp_path / "f.dcm")
    reason = decode(tmp_path / "f.dcm").reason
    assert "12 bits" in reason and "pip install pylibjpeg" in reason and "damaged" not in reason


@pytest.mark.parametrize("most", [None, 3])
@pytest.mark.parametrize(
    ("suffix", "codec", "syntax"),
    [
        (".m2v", "mpeg2video", "MPEG2MPML"),
        (".ts", "mpeg2video", "MPEG2MPHL"),
        (".h264", "libx264", "MPEG4HP41"),
        (".mp4", "libx264", "MPEG4HP42STEREO"),
        (".hevc", "libx265", "HEVCMP51"),
    ],
)
def test_a_video_inside_dicom(tmp_path, suffix, codec, syntax, most):
    import av
    import pydicom

    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV does not write {codec}")
    frames = [picture(seed=seed) for seed in range(7)]
    write_clip(tmp_path / f"v{suffix}", frames, codec=codec)
    data = (tmp_path / f"v{suffix}").read_bytes()
    found = compressed([data], getattr(pydicom.uid, syntax), "YBR_PARTIAL_420")
    save_dicom(found, tmp_path / "f.dcm")
    done = decode(tmp_path / "f.dcm", most=most)
    numbers = list(range(7)) if most is None else [0, 3, 6]
    assert done.reason == "" and [frame.number for frame in done.frames] == numbers
    for stored in done.frames:
        assert_same_pixels(stored, frames[stored.number], tolerance=14)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("DICOMDIR", "MediaStorageDirectoryStorage"),
        ("SR0001", "ComprehensiveSRStorage"),
        ("report.dcm", "EncapsulatedPDFStorage"),
        ("1.2.3", "GrayscaleSoftcopyPresentationStateStorage"),
        ("ecg.dcm", "TwelveLeadECGWaveformStorage"),
        ("raw3d.dcm", "1.2.840.113543.6.6.1.3.10002"),  # a vendor's own, beside the images of a study
    ],
)
def test_what_is_no_picture_beside_dicom_images_is_not_unreadable(tmp_path, name, kind):
    import pydicom

    found = dicom_dataset(picture())
    for element in ("PixelData", "Rows", "Columns"):
        delattr(found, element)
    found.SOPClassUID = found.file_meta.MediaStorageSOPClassUID = getattr(
        pydicom.uid, kind, pydicom.uid.UID(kind)
    )
    save_dicom(found, tmp_path / name)
    assert decode(tmp_path / name).reason.startswith("not a frame: DICOM, ")


def test_a_broken_video_inside_dicom_is_told_without_untrue_advice(tmp_path):
    from pydicom.uid import MPEG4HP41

    save_dicom(compressed([b"no video" * 50], MPEG4HP41, "YBR_PARTIAL_420"), tmp_path / "f.dcm")
    done = decode(tmp_path / "f.dcm")
    assert done.frames == [] and "damaged clip" in done.reason and "pip" not in done.reason


@pytest.mark.parametrize("deep", [True, False])
def test_palettes_in_big_endian_and_of_8_bits_in_16(tmp_path, deep):
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

    index = (picture()[..., 0] // 64).astype(np.uint8)
    colours = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    for syntax, order in ((ExplicitVRLittleEndian, "<u2"), (ExplicitVRBigEndian, ">u2")):
        found = dicom_dataset(index, "PALETTE COLOR")
        found.file_meta.TransferSyntaxUID = syntax
        found["PixelData"].VR = "OB"
        for number, name in enumerate(("Red", "Green", "Blue")):
            setattr(found, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
            table = (colours[:, number].astype(np.uint16) * (257 if deep else 1)).astype(order)
            setattr(found, f"{name}PaletteColorLookupTableData", table.tobytes())
        save_dicom(found, tmp_path / "p.dcm")
        assert_same_pixels(decode(tmp_path / "p.dcm").frames[0], colours[index])


@pytest.mark.parametrize("name", ["ANONYMOUS", "N/A", " ", "0"])
def test_a_placeholder_is_no_patient(tmp_path, name):
    found = dicom_dataset(picture())
    found.PatientID = name
    save_dicom(found, tmp_path / "f.dcm")
    assert decode(tmp_path / "f.dcm").patient == ""


def test_pixels_of_unknown_depth_are_refused(tmp_path):
    save_dicom(
        dicom_dataset(picture()[..., 0].astype(np.uint16) * 15, "MONOCHROME2", bits=16), tmp_path / "f.dcm"
    )
    assert "unknown depth" in decode(tmp_path / "f.dcm").reason


def test_damaged_jpeg_in_a_dicom_file_is_not_blamed_on_a_package(tmp_path):
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    found = dicom_dataset(np.stack([picture()] * 2), frames=2)
    found.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    found.PhotometricInterpretation = "YBR_FULL_422"
    found.PixelData = encapsulate([encode_image(picture(), "JPEG"), b"garbage" * 20])
    found["PixelData"].is_undefined_length = True
    save_dicom(found, tmp_path / "f.dcm")
    done = decode(tmp_path / "f.dcm")
    assert len(done.frames) == 1 and "damaged DICOM pixels" in done.reason and "pip" not in done.reason


def test_dark_frames_of_a_known_depth_and_signed_ones_are_used(tmp_path):
    dark = (picture()[..., 0] // 2).astype(np.uint16)
    save_dicom(dicom_dataset(dark, "MONOCHROME2", bits=12), tmp_path / "dark.dcm")
    signed = picture()[..., 0].astype(np.int16) - 300
    save_dicom(dicom_dataset(signed, "MONOCHROME2", bits=16, signed=True), tmp_path / "signed.dcm")
    for name in ("dark.dcm", "signed.dcm"):
        done = decode(tmp_path / name)
        assert done.reason == "" and len(done.frames) == 1
