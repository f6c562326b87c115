import pickle
import time
import zipfile

import numpy as np
import pytest
import torch
import torchvision
from random_model import write_model

from simclr_rhd.core.errors import UserError
from simclr_rhd.inference import classifier
from simclr_rhd.runs import checkpoint
from simclr_rhd.ssl.encoder.model import SimCLR, build


def test_a_perturbed_model_comes_back_by_name(tmp_path):
    model = build("random", seed=0)
    model.train()(torch.randn(4, 3, 32, 32))  # moves BatchNorm buffers
    checkpoint.save(tmp_path / "m.pt", {"model": model.state_dict(), "epoch": 3})
    other = SimCLR()
    other.load_state_dict(checkpoint.load(tmp_path / "m.pt")["model"], strict=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert checkpoint.digest(model) == checkpoint.digest(other)


def test_a_crash_while_saving_leaves_the_old_file_good(tmp_path, monkeypatch):
    path = tmp_path / "m.pt"
    checkpoint.save(path, {"epoch": 1})

    def half(payload, stream):
        stream.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError):
        checkpoint.save(path, {"epoch": 2})
    assert checkpoint.load(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["m.pt"]


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("code ran while a checkpoint was loaded",))


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"root:x:0:0:root\n", pickle.dumps({"a": 1}), pickle.dumps(Bomb())]
)
def test_foreign_files_are_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "m.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="m.pt"):
        checkpoint.load(path)


def test_hostile_and_truncated_torch_files_are_refused(tmp_path):
    torch.save({"x": Bomb()}, tmp_path / "bomb.pt")
    checkpoint.save(tmp_path / "good.pt", {"x": torch.zeros(1000)})
    (tmp_path / "cut.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:1500])
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("bomb.pt", "cut.pt", "list.pt", "absent.pt"):
        with pytest.raises(UserError, match=name):
            checkpoint.load(tmp_path / name)


def flip(path, bit):
    """Flip one bit of a file; done twice, it is as before."""
    with path.open("r+b") as stream:
        stream.seek(bit // 8)
        (byte,) = stream.read(1)
        stream.seek(bit // 8)
        stream.write(bytes([byte ^ 1 << bit % 8]))


def test_no_flipped_bit_is_read(tmp_path):
    path = tmp_path / "m.pt"
    checkpoint.save(path, {"x": torch.arange(20.0), "epoch": 3})
    for bit in range(8 * path.stat().st_size):
        flip(path, bit)
        with pytest.raises(UserError, match="m.pt: not a checkpoint of this program, or damaged"):
            checkpoint.load(path)
        flip(path, bit)
    assert checkpoint.load(path)["epoch"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.pt", "simclr_last.pt"])
def test_no_flipped_bit_of_300_is_read_in_the_files_of_a_run(tmp_path, name):
    path = tmp_path / name
    if name == "model.pt":
        read = classifier.load
        write_model(path)
    else:
        read, model = checkpoint.load, build("random", seed=0)
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.randn(4, 3, 32, 32)).sum().backward()
        optimizer.step()
        checkpoint.save(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    read(path)
    for bit in np.random.default_rng(0).integers(8 * path.stat().st_size, size=300).tolist():
        flip(path, bit)
        with pytest.raises(UserError, match=name):
            read(path)
        flip(path, bit)
    read(path)


def test_a_file_without_a_checksum_is_read_and_named(tmp_path, caplog):
    checkpoint.save(tmp_path / "new.pt", {"epoch": 3})
    torch.save({"epoch": 3}, tmp_path / "old.pt")
    with caplog.at_level("INFO", logger="simclr_rhd"):
        assert checkpoint.load(tmp_path / "new.pt") == checkpoint.load(tmp_path / "old.pt")
    assert "old.pt has no checksum" in caplog.text and "new.pt" not in caplog.text


def test_a_file_whose_checksum_was_cut_off_is_no_older_file(tmp_path):
    path = tmp_path / "m.pt"
    checkpoint.save(path, {"x": torch.arange(20.0), "epoch": 3})
    path.write_bytes(path.read_bytes()[: -checkpoint.COMMENT_BYTES])
    with pytest.raises(UserError, match="m.pt: not a checkpoint of this program, or damaged"):
        checkpoint.load(path)


def test_a_key_of_tuples_within_tuples_is_refused_before_it_is_looked_up(tmp_path):
    """To hash it would take 2 ** 26 steps."""
    key = (1, 2)
    for _ in range(26):
        key = key, key
    key = pickle.dumps(key, protocol=2)[2:-1]
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        for name, content in (("data.pkl", b"\x80\x02}" + key + b"K\x01s."), ("version", b"3\n")):
            archive.writestr(f"archive/{name}", content)
    started = time.process_time()
    with pytest.raises(UserError, match="nested too deep, or too long"):
        checkpoint.load(tmp_path / "m.pt")
    assert time.process_time() - started < 0.3


def test_an_optimizer_of_many_groups_that_share_their_betas_is_read(tmp_path):
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(200)]
    optimizer = torch.optim.AdamW([{"params": [one]} for one in parameters], betas=(0.8, 0.9))
    checkpoint.save(tmp_path / "m.pt", {"optimizer": optimizer.state_dict()})
    assert len(checkpoint.load(tmp_path / "m.pt")["optimizer"]["param_groups"]) == 200


def test_other_programs_read_a_file_as_before(tmp_path):
    checkpoint.save(tmp_path / "m.pt", {"x": torch.arange(3)})
    assert torch.load(tmp_path / "m.pt", weights_only=True)["x"].tolist() == [0, 1, 2]
    with zipfile.ZipFile(tmp_path / "m.pt") as archive:
        assert archive.testzip() is None and archive.comment.startswith(b"simclr-rhd sha256 ")


def test_a_digest_sees_parameters_and_buffers():
    model = build("random", seed=0)
    before = checkpoint.digest(model)
    model.encoder.bn1.running_mean += 1e-6
    assert checkpoint.digest(model) != before


def test_weights_come_from_a_checkpoint_of_this_program(tmp_path):
    saved = build("random", seed=1)
    checkpoint.save(tmp_path / "best.pt", {"model": saved.state_dict()})
    checkpoint.save(tmp_path / "model.pt", {"encoder": saved.encoder.state_dict()})
    state = {"model": build("random", seed=3).state_dict(), "average": {"model": saved.state_dict()}}
    checkpoint.save(tmp_path / "last.pt", state)
    for name in ("best.pt", "model.pt", "last.pt"):
        model = build(str(tmp_path / name), seed=2)
        assert checkpoint.digest(model.encoder) == checkpoint.digest(saved.encoder)
        assert checkpoint.digest(model.projector) != checkpoint.digest(saved.projector)


def test_weights_come_from_a_state_dict_of_torchvision(tmp_path):
    theirs = torchvision.models.resnet18(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    model = build(str(tmp_path / "resnet18.pth"), seed=2)
    assert all(
        torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in model.encoder.state_dict().items()
    )


@pytest.mark.parametrize(
    "content",
    [{}, {"encoder": {"weight": torch.zeros(2)}}, {"model": [1]}, {"encoder": 3}, {"conv1.weight": 1}],
)
def test_weights_that_do_not_fit_are_refused_in_one_sentence(tmp_path, content):
    checkpoint.save(tmp_path / "other.pt", content)
    with pytest.raises(
        UserError, match=r"--init .*other.pt: not the weights of a ResNet-18 encoder: \d+ missing"
    ):
        build(str(tmp_path / "other.pt"), seed=0)


def test_weights_that_differ_are_named_with_their_differences(tmp_path):
    state = {
        f"module.{name}": x for name, x in torchvision.models.resnet18(weights=None).state_dict().items()
    }
    torch.save(state, tmp_path / "wrapped.pth")
    build(str(tmp_path / "wrapped.pth"), seed=0)
    del state["module.bn1.weight"]
    state["module.conv1.weight"] = torch.zeros(64, 1, 7, 7)
    state["module.attention"] = torch.zeros(3)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UserError) as refused:
        build(str(tmp_path / "other.pth"), seed=0)
    for part in (
        "1 missing: bn1.weight",
        "1 not of a ResNet-18: attention",
        "1 of another shape: conv1.weight is (64, 1, 7, 7), wanted (64, 3, 7, 7)",
    ):
        assert part in str(refused.value)


def test_imagenet_weights_replace_the_encoder_only(monkeypatch):
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    weights = torchvision.models.ResNet18_Weights
    monkeypatch.setattr(weights, "get_state_dict", lambda self, **options: dict(theirs))
    model = build("imagenet", seed=0)
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, theirs[name])


def test_imagenet_weights_that_cannot_be_had(monkeypatch):
    def offline(self, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", offline)
    with pytest.raises(UserError, match="--init imagenet.*no route to host"):
        build("imagenet", seed=0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError(101), ""),
        (IndexError("list index out of range"), ""),
        (KeyError("heads"), r" \('heads' is missing\)"),
        (RuntimeError("two\nlines"), r" \(two lines\)"),
        (EOFError(), r" \(EOFError\)"),
    ],
)
def test_a_reason_is_a_text_and_no_bare_value(tmp_path, monkeypatch, error, reason):
    checkpoint.save(tmp_path / "m.pt", {})

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(UserError, match=f"or damaged{reason}$"):
        checkpoint.load(tmp_path / "m.pt")
