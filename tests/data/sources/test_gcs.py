"""A bucket as a source, against an emulator that pages, and a proxy that injects faults."""

import gzip
import itertools
import threading

import pytest

import main
from simclr_rhd.cli.command_line import parse
from simclr_rhd.core.errors import UserError
from simclr_rhd.data.sources import gcs as module
from simclr_rhd.data.sources import gcs_objects
from simclr_rhd.data.sources.base import BucketAccess
from simclr_rhd.data.sources.folder import Folder
from simclr_rhd.data.sources.gcs import Bucket
from simclr_rhd.data.sources.open import open_data
from simclr_rhd.inference.prediction.input_files import find_inputs
from simclr_rhd.runs import context

NAMES = itertools.count()


@pytest.fixture
def name(gcs, monkeypatch):
    """A fresh bucket with seven objects, one of them named as real exports name them."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    monkeypatch.setattr(module, "BACKOFF_S", 0.01)
    gcs.faults.clear()
    gcs.reads.clear()
    gcs.refusal = gcs.payer = None
    bucket = f"echo-{next(NAMES)}"
    for number in range(6):
        gcs.put(bucket, f"s/lab/v_frame{number}.png", content(number))
    gcs.put(bucket, "s/lab/10.33.21 hrs __[0005899] ü_frame12.png", content(6))
    gcs.put(bucket, "s/table.csv", b"FILENAME\n")
    yield bucket
    gcs.refusal = gcs.payer = None


def content(number):
    return bytes(range(256)) * (number + 1)


def opened(name, tmp_path):
    return Bucket(f"gs://{name}/s", BucketAccess(tmp_path / "cache"))


def listed(source):
    return source.files("lab", flag="--labelled-prefix")


def test_a_listing_of_several_pages_is_whole_and_sorted(name, tmp_path, monkeypatch):
    monkeypatch.setattr(Bucket, "page_size", 3)
    entries = listed(opened(name, tmp_path))
    assert [entry.key for entry in entries] == sorted(entry.key for entry in entries)
    assert len(entries) == 7 and entries[0].key == "lab/10.33.21 hrs __[0005899] ü_frame12.png"


def test_every_object_is_fetched_once(name, tmp_path, gcs):
    source = opened(name, tmp_path)
    paths, failed = source.fetch(listed(source))
    assert failed == {} and len(paths) == 7
    assert paths["lab/v_frame3.png"].read_bytes() == content(3)
    assert sum(gcs.reads.values()) == 7
    assert (tmp_path / "cache" / "objects").stat().st_mode & 0o777 == 0o700, "its owner's alone"
    again = opened(name, tmp_path)
    assert again.fetch(listed(again))[0] == paths
    assert sum(gcs.reads.values()) == 7, "the second time it only lists"


def test_a_changed_object_is_fetched_again(name, tmp_path, gcs):
    source = opened(name, tmp_path)
    before, _ = source.fetch(listed(source))
    gcs.put(name, "s/lab/v_frame3.png", b"other bytes")
    after, _ = source.fetch(listed(source))
    assert after["lab/v_frame3.png"].read_bytes() == b"other bytes"
    assert before["lab/v_frame3.png"].read_bytes() == content(3), "an older run's file is left alone"
    assert gcs.reads["s/lab/v_frame0.png"] == 1


@pytest.mark.parametrize(
    "faults",
    [[503], [429, 503], [500], ["reset"], ["truncate"], ["corrupt"], ["corrupt", "corrupt"], ["splice"]],
)
def test_passing_faults_cost_time_and_never_a_wrong_byte(name, tmp_path, gcs, faults):
    source = opened(name, tmp_path)
    gcs.faults["s/lab/v_frame3.png"] = list(faults)
    paths, failed = source.fetch(listed(source))
    assert failed == {} and gcs.reads["s/lab/v_frame3.png"] > 1
    for number in range(6):
        assert paths[f"lab/v_frame{number}.png"].read_bytes() == content(number)


def test_an_object_that_stays_corrupt_is_named_and_not_kept(name, tmp_path, gcs):
    source = opened(name, tmp_path)
    gcs.faults["s/lab/v_frame3.png"] = ["corrupt"] * 50
    paths, failed = source.fetch(listed(source))
    assert set(failed) == {"lab/v_frame3.png"} and "checksum" in failed["lab/v_frame3.png"]
    assert len(paths) == 6 and not list((tmp_path / "cache").rglob("*.part"))
    gcs.faults.clear()
    assert source.fetch(listed(source))[1] == {}, "the next run has it"


def test_an_object_that_vanished_since_the_listing_is_named(name, tmp_path, gcs):
    source = opened(name, tmp_path)
    entries = listed(source)
    gcs.client().bucket(name).blob("s/lab/v_frame3.png").delete()
    paths, failed = source.fetch(entries)
    assert "deleted" in failed["lab/v_frame3.png"] and len(paths) == 6


def test_denied_access_is_one_sentence_and_leaves_nothing_half(name, tmp_path, gcs):
    source = opened(name, tmp_path)
    gcs.faults["s/lab/v_frame3.png"] = [403]
    with pytest.raises(UserError, match=r"access denied \(403\).*Storage Object Viewer"):
        source.fetch(listed(source))
    assert not list((tmp_path / "cache").rglob("*.part"))
    assert all(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_a_cached_file_of_another_size_is_not_believed(name, tmp_path, gcs):
    source = opened(name, tmp_path)
    paths, _ = source.fetch(listed(source))
    paths["lab/v_frame3.png"].write_bytes(b"cut")
    assert source.fetch(listed(source))[0]["lab/v_frame3.png"].read_bytes() == content(3)


def test_two_runs_may_fill_one_cache(name, tmp_path):
    sources = [opened(name, tmp_path) for _ in range(2)]
    found = [None, None]

    def fetch(number):
        found[number] = sources[number].fetch(listed(sources[number]))

    threads = [threading.Thread(target=fetch, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] and found[0][1] == {}
    assert all(found[0][0][f"lab/v_frame{k}.png"].read_bytes() == content(k) for k in range(6))


@pytest.mark.parametrize(
    "hostile", ["s/lab/../../evil.png", "s/lab//x.png", "s/lab/a\nb.png", "s/lab/.hidden.png"]
)
def test_names_that_lead_elsewhere_are_left_out(name, tmp_path, gcs, hostile):
    gcs.put(name, hostile, b"x")
    source = opened(name, tmp_path)
    assert len(listed(source)) == 7
    assert bool(source.skipped) == (".." in hostile or "\n" in hostile)
    source.fetch(listed(source))
    assert {path.parent.parent for path in (tmp_path / "cache").rglob("*") if path.is_file()} <= {
        tmp_path / "cache" / "objects" / name,
        tmp_path / "cache" / "objects",
    }


def test_folder_and_bucket_list_the_same_keys_and_bytes(name, tmp_path):
    source = opened(name, tmp_path)
    paths, _ = source.fetch(listed(source))
    for key, path in paths.items():
        target = tmp_path / "folder" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    folder = Folder(tmp_path / "folder", location="folder")
    assert [entry.key for entry in listed(folder)] == [entry.key for entry in listed(source)]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("gs://no-such-bucket", ["no bucket no-such-bucket"]),
        ("gs://{name}/wrong", ["--labelled-prefix lab", "no objects", "wrong"]),
        ("gs://", ["gs://BUCKET"]),
        ("gs://UPPER", ["gs://BUCKET"]),
    ],
)
def test_what_is_not_there_is_one_sentence(name, tmp_path, location, words):
    with pytest.raises(UserError) as error:
        listed(Bucket(location.format(name=name), BucketAccess(tmp_path)))
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_a_missing_table_names_those_that_are_there(name, tmp_path):
    assert opened(name, tmp_path).entry("table.csv").size == 9
    with pytest.raises(UserError, match=r"--labels-csv other.csv.*table.csv"):
        opened(name, tmp_path).entry("other.csv")


def test_missing_credentials_are_one_sentence(monkeypatch, tmp_path):
    import google.auth

    def nobody(*_, **__):
        raise google.auth.exceptions.DefaultCredentialsError("none")

    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(google.auth, "default", nobody)
    with pytest.raises(UserError, match="gcloud auth application-default login"):
        Bucket("gs://some-bucket", BucketAccess(tmp_path))


def test_offline_asks_nobody(name, tmp_path, gcs, monkeypatch):
    source = opened(name, tmp_path)
    entries = listed(source)
    paths, _ = source.fetch(entries)
    assert source.fetched == 7 and source.listed == 7 and source.remote
    monkeypatch.setattr(Bucket, "_connect", lambda self: 1 / 0)
    again = Bucket(f"gs://{name}/s", BucketAccess(tmp_path / "cache", offline=True))
    assert listed(again) == entries and again.fetch(entries) == (paths, {}) and again.fetched == 0
    paths[entries[0].key].unlink()
    _, failed = again.fetch(entries)
    assert list(failed) == [entries[0].key] and "--offline" in failed[entries[0].key]
    with pytest.raises(UserError, match="--offline: .* was never listed"):
        Bucket(f"gs://{name}/other", BucketAccess(tmp_path / "cache", offline=True)).files("lab", flag="--x")


def test_a_killed_run_goes_on_where_it_was(name, tmp_path, gcs):
    source = opened(name, tmp_path)
    entries = listed(source)
    source.fetch(entries[:4])
    before = gcs.reads.copy()
    opened(name, tmp_path).fetch(entries)
    assert sum((gcs.reads - before).values()) == 3


def test_a_cached_object_that_was_damaged_is_fetched_again(name, tmp_path, gcs):
    source = opened(name, tmp_path)
    entries = listed(source)
    paths, _ = source.fetch(entries)
    whole = paths[entries[1].key].read_bytes()
    paths[entries[1].key].write_bytes(bytes(len(whole)))
    again, failed = opened(name, tmp_path).fetch(entries)
    assert failed == {} and again[entries[1].key].read_bytes() == whole


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "{}",
        "3",
        '[["a"]]',
        '[["a", 1, 2]]',
        '["abc"]',
        '[["a", "b", "1-x"]]',
        '[["a", 1, "x"]]',
    ],
)
def test_a_kept_listing_of_another_shape_is_one_sentence(name, tmp_path, content):
    listed(opened(name, tmp_path))
    (kept,) = (tmp_path / "cache").rglob("listings/*.json")
    kept.write_text(content)
    offline = Bucket(f"gs://{name}/s", BucketAccess(tmp_path / "cache", offline=True))
    with pytest.raises(UserError, match="--labelled-prefix|--offline: .* was never listed"):
        listed(offline)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_what_is_stored_as_gzip_is_read_without_it(name, tmp_path, gcs, encoding):
    table = b"FILENAME,SEVERITY\nv_frame0.png,Mild\n" * 9
    stored = gzip.compress(table)
    gcs.put(name, "s/zipped.csv", stored, encoding=encoding)
    gcs.put(name, "s/lab/v_frame3.png", gzip.compress(content(3)), encoding=encoding)
    source = opened(name, tmp_path)
    entry = source.entry("zipped.csv")
    assert entry.size == len(stored)
    assert source.fetch([entry])[0]["zipped.csv"].read_bytes() == table
    paths, failed = source.fetch(listed(source))
    assert failed == {} and all(paths[f"lab/v_frame{k}.png"].read_bytes() == content(k) for k in range(6))
    reads = sum(gcs.reads.values())
    again = opened(name, tmp_path)
    assert again.fetch(listed(again))[0] == paths and sum(gcs.reads.values()) == reads
    offline = Bucket(f"gs://{name}/s", BucketAccess(tmp_path / "cache", offline=True))
    assert offline.fetch(listed(offline)) == (paths, {})


def test_the_stored_bytes_of_what_is_stored_as_gzip_are_verified(name, tmp_path, gcs):
    gcs.put(name, "s/lab/v_frame3.png", gzip.compress(content(3)), encoding="gzip")
    source = opened(name, tmp_path)
    gcs.faults["s/lab/v_frame3.png"] = ["corrupt", "truncate", "splice"]
    paths, failed = source.fetch(listed(source))
    assert failed == {} and paths["lab/v_frame3.png"].read_bytes() == content(3)
    paths["lab/v_frame3.png"].write_bytes(b"damaged in the cache")
    assert source.fetch(listed(source))[0]["lab/v_frame3.png"].read_bytes() == content(3)


@pytest.mark.parametrize(
    ("stored", "encoding", "why"),
    [
        (gzip.compress(bytes(5_000_000)), "gzip", "holds more than"),
        (gzip.compress(content(3))[:-9], "gzip", "its gzip is damaged"),
        (gzip.compress(content(3)) + b"more", "gzip", "its gzip is damaged"),
        (b"\x1f\x8b\x08 no gzip at all", "gzip", "its gzip is damaged"),
        (content(3), "br", "content encoding br, which is not read"),
        (content(3), "gzip, gzip", "content encoding gzip, gzip, which is not read"),
    ],
    ids=["too much", "too short", "more behind it", "no gzip", "br", "gzip twice"],  # gzip notes the time
)
def test_what_cannot_be_decoded_is_named_with_its_reason(
    name, tmp_path, gcs, monkeypatch, stored, encoding, why
):
    monkeypatch.setattr(gcs_objects, "MAX_DECODED_BYTES", 4_000_000)
    gcs.put(name, "s/lab/v_frame3.png", stored, encoding=encoding)
    source = opened(name, tmp_path)
    paths, failed = source.fetch(listed(source))
    assert len(paths) == 6 and why in failed["lab/v_frame3.png"]
    assert not list((tmp_path / "cache").rglob("*.part"))
    offline = Bucket(f"gs://{name}/s", BucketAccess(tmp_path / "cache", offline=True))
    assert offline.fetch(listed(offline)) == (paths, failed)


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_what_is_only_called_encoded_is_taken_as_it_is(name, tmp_path, gcs, encoding):
    gcs.put(name, "s/lab/v_frame3.png", content(3), encoding=encoding)
    source = opened(name, tmp_path)
    paths, failed = source.fetch(listed(source))
    assert failed == {} and paths["lab/v_frame3.png"].read_bytes() == content(3)


REQUESTER_PAYS = "Bucket is a requester pays bucket but no user project provided."


@pytest.mark.parametrize(
    ("status", "sentence", "way_out"),
    [
        (400, REQUESTER_PAYS, "--billing-project PROJECT"),
        (
            403,
            "me@example.org does not have serviceusage.services.use access to the Google Cloud project.",
            "the role Service Usage Consumer on the --billing-project",
        ),
        (403, "The billing account for the owning project is disabled in state absent", "billing in order"),
        (403, "Request is prohibited by organization's policy.", "administers the organisation"),
        (412, "Request violates constraint 'constraints/storage.restrictAuthTypes'", "administers the org"),
        (403, "me@example.org does not have storage.objects.list access.", "Storage Object Viewer on this"),
        (400, "Unknown project id: nobody", "Unknown"),
    ],
)
def test_a_refusal_is_googles_own_sentence_and_what_can_be_done(
    name, tmp_path, gcs, status, sentence, way_out
):
    source = opened(name, tmp_path)
    entries = listed(source)
    gcs.refusal = status, sentence
    for request in (lambda: listed(source), lambda: source.fetch(entries)):
        with pytest.raises(UserError) as refused:
            request()
        text = str(refused.value)
        assert sentence.rstrip(".") in text and way_out in text and f"({status})" in text
        assert "\n" not in text and "http" not in text and "try again" not in text
        assert ("needs the role Storage" in text) == ("storage.objects" in sentence)


def test_the_project_that_pays_is_named_in_each_request(name, tmp_path, gcs, monkeypatch):
    gcs.refusal, gcs.payer = (400, REQUESTER_PAYS), "our-project"
    paying = Bucket(f"gs://{name}/s", BucketAccess(tmp_path / "cache", billing_project="our-project"))
    paths, failed = paying.fetch([*listed(paying), paying.entry("table.csv")])
    assert failed == {} and len(paths) == 8
    with pytest.raises(UserError, match="no user project"):
        listed(opened(name, tmp_path))
    with pytest.raises(UserError, match="--x nowhere: no objects below"):
        paying.files("nowhere", flag="--x")


def test_every_command_names_the_project_that_pays(name, tmp_path, gcs, capsys):
    gcs.refusal, gcs.payer = (400, REQUESTER_PAYS), "our-project"
    flags = ["--billing-project", "our-project", "--cache-dir", str(tmp_path / "cache")]
    for words in ([], ["estimate"]):
        config = parse([*words, "--data", f"gs://{name}/s", "--save-dir", f"gs://{name}/out", *flags])
        assert len(listed(open_data(config))) == 7
        with context._mirroring(config, tmp_path) as mirror:
            assert mirror.remote.list_objects() == {}
    (tmp_path / "model.pt").touch()
    model = ["--model", str(tmp_path / "model.pt")]
    for words in (["predict", f"gs://{name}/s/lab"], ["export", "--frames", f"gs://{name}/s/lab"]):
        config = parse([*words, *model, *flags])
        assert config.billing_project == "our-project"
        assert main.main([*words, *model, *flags]) == 2, "an empty file is no model"
        (place,) = find_inputs([f"gs://{name}/s/lab"], config.bucket_access())
        assert len(place.entries) == 7
    for words in ([], ["predict", "a.png", *model]):
        with pytest.raises(SystemExit):
            parse([*words, "--billing-project", "our-project"])
        assert "--billing-project our-project: only" in capsys.readouterr().err
