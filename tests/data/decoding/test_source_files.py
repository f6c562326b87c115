from echo_files import encode_image, picture

from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.decoding.source_files import decode_stills, iter_decoded
from simclr_rhd.data.sources.folder import Folder


class FailingFolder(Folder):
    """A folder one of whose files cannot be fetched."""

    def fetch(self, entries):
        paths, _ = super().fetch(entries)
        failed = {key: "lost" for key in paths if key.startswith("c_")}
        return {key: path for key, path in paths.items() if key not in failed}, failed


def test_files_without_frames_come_first_with_a_reason_and_the_others_by_key(tmp_path):
    for name in ("b_frame1.png", "a_frame1.png", "c_frame1.png"):
        (tmp_path / name).write_bytes(encode_image(picture()))
    (tmp_path / "d_frame1.png").write_bytes(b"no")
    (tmp_path / "notes.txt").write_bytes(b"no")
    source = FailingFolder(tmp_path, location="here")
    source.skipped = [("odd", "unusable name")]
    entries = source.files("", flag="--x")
    options = DecodeOptions(32)
    for files_per_fetch in (0, len(entries)):
        files = list(iter_decoded(source, entries, options, list, files_per_fetch=files_per_fetch))
        assert [(file.key, len(frames), file.reason) for file, frames in files] == [
            ("odd", 0, "unusable name"),
            ("notes.txt", 0, "not a frame: .txt"),
            ("c_frame1.png", 0, "could not be fetched: lost"),
            ("a_frame1.png", 1, ""),
            ("b_frame1.png", 1, ""),
            ("d_frame1.png", 0, "not an image"),
        ]
    one_by_one = list(iter_decoded(source, entries, options, decode_stills, files_per_fetch=1))
    assert [file.key for file, _ in one_by_one] == [name for name, *_ in (["odd"], *sorted(entries))]


def test_a_source_without_files_still_names_what_it_skipped(tmp_path):
    source = Folder(tmp_path, location="here")
    source.skipped = [("odd", "unusable name")]
    assert [file.reason for file, _ in iter_decoded(source, [], DecodeOptions(32), list)] == ["unusable name"]
