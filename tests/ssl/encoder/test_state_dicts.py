"""An encoder begins with the weights of other programs: its features are those of the source."""

import copy
import json
import logging

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from simclr_rhd.core.errors import UserError
from simclr_rhd.runs import checkpoint
from simclr_rhd.ssl.encoder import initial_weights, state_dicts
from simclr_rhd.ssl.encoder.model import build


def resnet(seed, *, kind=torchvision.models.resnet18, **options):
    """A ResNet as after a training: the statistics of its norms are not those of a new one."""
    torch.manual_seed(seed)
    net = kind(weights=None, **options)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked += 7
    return net.eval()


def children(net):
    return nn.Sequential(*list(net.children())[:-1])


def headless(net):
    net.fc = nn.Identity()
    return net


def mlp(out=128):
    return nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, out))


class Parts(nn.Module):
    """Modules under the names that a program has for them, the one that counts first."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.main = [next(iter(parts.values()))]  # in a list: no part of the state dict

    def forward(self, views):
        return self.main[0](views)


def compile_names(net):
    """The module that torch.compile makes, as its state dict has it."""
    return Parts(_orig_mod=net)


def torchvision_plain():
    net = resnet(1)
    state = copy.deepcopy(net.state_dict())
    return state, headless(net)


def data_parallel():
    net = headless(resnet(1))
    return nn.DataParallel(net).state_dict(), net


def compiled():
    net = headless(resnet(1))
    return compile_names(net).state_dict(), net


def lightly(shape, **more):
    """A model of lightly's: the backbone in the `shape` of its examples, or of its benchmarks."""
    return Parts(backbone=shape(resnet(1)), projection_head=Parts(layers=mlp()), **more)


def lightly_simclr():
    model = lightly(children)
    return model.state_dict(), model


def lightly_moco():
    head = Parts(layers=mlp())
    model = lightly(children, backbone_momentum=children(resnet(2)), projection_head_momentum=head)
    return model.state_dict(), model


def lightly_benchmark():
    model = lightly(headless, query_backbone=headless(resnet(2)), query_projection_head=Parts(layers=mlp()))
    return lightning(model), model


def wrappers_inside_and_outside():
    backbone = children(resnet(1))
    model = Parts(backbone=nn.DataParallel(compile_names(backbone)), projection_head=mlp())
    return compile_names(nn.DataParallel(compile_names(model))).state_dict(), backbone


def lightning(model):
    momenta = {number: {"momentum_buffer": torch.zeros(3)} for number in range(3)}
    return {
        "epoch": 3,
        "global_step": 7,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": model.state_dict(),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"Checkpointer": {}},
        "optimizer_states": [{"state": momenta, "param_groups": [{"lr": 0.1}]}],
        "hyper_parameters": {"method": "simclr"},
    }


def solo_learn(encoder="backbone", copied="momentum_backbone"):
    nets = {encoder: headless(resnet(1)), copied: headless(resnet(2))}
    model = Parts(**nets, classifier=nn.Linear(512, 10), projector=mlp(), momentum_projector=mlp())
    return lightning(model), model


def solo_learn_old():
    return solo_learn("encoder", "momentum_encoder")


def training_state(state):
    return {"epoch": 3, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}}


def sthalles():
    net = resnet(1, num_classes=128)
    net.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), net.fc)
    content = training_state(copy.deepcopy(Parts(backbone=net).state_dict()))
    return content, headless(net)


def sthalles_2020():
    model = Parts(features=children(resnet(1)), l1=nn.Linear(512, 512), l2=nn.Linear(512, 128))
    return model.state_dict(), model


def moco(encoder="encoder_q", copied="encoder_k", fc=None, **more):
    nets = [resnet(seed, num_classes=128) for seed in (1, 2)]
    for net in nets:
        net.fc = fc() if fc else net.fc
    model = Parts(**{encoder: nets[0], copied: nets[1]}, **more)
    model.register_buffer("queue", torch.randn(128, 16))
    content = training_state(copy.deepcopy(nn.DataParallel(model).state_dict()))
    return content, headless(nets[0])


def moco_v2():
    return moco(fc=mlp)


def moco_v3():
    return moco("base_encoder", "momentum_encoder", fc=mlp, predictor=mlp())


SOURCES = [
    *(torchvision_plain, data_parallel, compiled, wrappers_inside_and_outside),
    *(lightly_simclr, lightly_moco, lightly_benchmark, solo_learn, solo_learn_old, sthalles, sthalles_2020),
    *(moco, moco_v2, moco_v3),
]


def assert_same_features(path, source):
    encoder = build(str(path), seed=9).encoder.eval().double()
    views = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.inference_mode():
        expected = source.double()(views).flatten(1)
        torch.testing.assert_close(encoder(views), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
def test_the_features_are_those_of_the_source(tmp_path, make):
    content, source = make()
    torch.save(content, tmp_path / "weights.pt")
    assert_same_features(tmp_path / "weights.pt", source)


def test_files_of_an_old_pytorch_can_be_read(tmp_path):
    content, source = moco()
    torch.save(content, tmp_path / "weights.pth.tar", _use_new_zipfile_serialization=False)
    assert_same_features(tmp_path / "weights.pth.tar", source)


@pytest.mark.parametrize("make", [torchvision_plain, lightly_moco], ids=lambda make: make.__name__)
def test_safetensors_can_be_read(tmp_path, make):
    content, source = make()
    safetensors.torch.save_file(
        {name: x.contiguous() for name, x in content.items()}, tmp_path / "w.safetensors"
    )
    assert_same_features(tmp_path / "w.safetensors", source)


def test_weights_in_half_precision_are_taken(tmp_path):
    net = headless(resnet(1)).half()
    torch.save(net.state_dict(), tmp_path / "half.pt")
    assert_same_features(tmp_path / "half.pt", net)


def test_a_choice_among_encoders_is_logged(tmp_path, caplog):
    torch.save(moco()[0], tmp_path / "weights.pt")
    with caplog.at_level(logging.INFO, logger="simclr_rhd"):
        build(str(tmp_path / "weights.pt"), seed=0)
    assert "begins with 'state_dict.encoder_q.', not 'state_dict.encoder_k.'" in caplog.text


def refusal(path):
    with pytest.raises(UserError) as refused:
        build(str(path), seed=0)
    message = str(refused.value)
    assert message.startswith(f"--init {path}: ") and "\n" not in message and len(message) < 900
    return message


def test_a_network_for_small_pictures_is_refused(tmp_path):
    net = headless(resnet(1))
    net.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=2, bias=False)
    net.maxpool = nn.Identity()
    torch.save(lightning(Parts(backbone=net, classifier=nn.Linear(512, 10))), tmp_path / "cifar.ckpt")
    message = refusal(tmp_path / "cifar.ckpt")
    assert "its first convolution is 3 x 3, as for pictures of 32 pixels (CIFAR), wanted 7 x 7" in message
    assert "below 'state_dict.backbone.'" in message


@pytest.mark.parametrize("kind", [torchvision.models.resnet34, torchvision.models.resnet50])
def test_another_resnet_is_refused(tmp_path, kind):
    torch.save(Parts(backbone=children(resnet(1, kind=kind))).state_dict(), tmp_path / "other.pt")
    message = refusal(tmp_path / "other.pt")
    assert "not of a ResNet-18: layer1." in message and "below 'backbone.' are the most like it" in message


def test_what_is_there_and_what_is_missing_is_named(tmp_path):
    names = [f"vit.blocks.{number}.weight" for number in range(1, 5)]
    torch.save({"epoch": 3} | {name: torch.zeros(3) for name in names}, tmp_path / "vit.pt")
    message = refusal(tmp_path / "vit.pt")
    assert "missing: conv1.weight, bn1.weight, bn1.bias; " in message
    assert message.endswith(f"The file has 4 tensors ({', '.join(names[:3])}, ...)")


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    net = resnet(1)
    net.layer3[1].bn1.bias.data[5] = torch.nan
    torch.save(nn.DataParallel(net).state_dict(), tmp_path / "nan.pt")
    assert "layer3.1.bn1.bias has a number that is not finite" in refusal(tmp_path / "nan.pt")


def test_variances_below_zero_are_refused(tmp_path):
    net = resnet(1)
    net.bn1.running_var[3] = -1
    torch.save(net.state_dict(), tmp_path / "negative.pt")
    assert "bn1.running_var has a variance below 0" in refusal(tmp_path / "negative.pt")


def test_the_batches_counted_by_batch_norm_may_be_of_any_type(tmp_path):
    half = {
        name: value.half().reshape(-1) if name.endswith("num_batches_tracked") else value
        for name, value in resnet(1).state_dict().items()
    }
    torch.save(half, tmp_path / "half.pt")
    encoder = build(str(tmp_path / "half.pt"), seed=0).encoder
    assert encoder.state_dict()["bn1.num_batches_tracked"].dtype == torch.int64


def test_objects_in_a_file_are_not_loaded(tmp_path):
    torch.save({"state_dict": resnet(1).state_dict(), "model": nn.Linear(2, 2)}, tmp_path / "objects.pt")
    message = refusal(tmp_path / "objects.pt")
    assert (
        "more than tensors and plain values" in message and "torch.save(model.state_dict(), FILE)" in message
    )


def test_a_table_with_one_name_twice_is_refused(tmp_path):
    state = resnet(1).state_dict()
    torch.save(state | {"module.bn1.bias": torch.zeros(64)}, tmp_path / "twice.pt")
    assert "bn1.bias is in it twice" in refusal(tmp_path / "twice.pt")


def test_a_damaged_file_of_safetensors_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"conv1.weight": torch.zeros(3)}, path)
    whole = path.read_bytes()
    odd_type = json.dumps({"x": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}).encode()
    header = len(odd_type).to_bytes(8, "little") + odd_type
    for content in (b"", b"\xff" * 40, whole[:-1], whole[:20], header + b"0"):
        path.write_bytes(content)
        assert "no file of safetensors, or damaged" in refusal(path)


def test_sizes_are_limited(tmp_path, monkeypatch):
    with (tmp_path / "huge.pt").open("wb") as stream:
        stream.truncate(initial_weights.MAX_FILE_BYTES + 1)  # takes no room on the disk
    assert "larger than 2 GiB" in refusal(tmp_path / "huge.pt")
    monkeypatch.setattr(state_dicts, "MAX_TENSORS", 5)
    checkpoint.save(tmp_path / "many.pt", {str(number): torch.zeros(1) for number in range(6)})
    assert "more than 5 tensors" in refusal(tmp_path / "many.pt")


def test_tables_are_looked_into_only_so_deep_and_names_only_so_long():
    deep = {"x": torch.zeros(1)}
    for _ in range(state_dicts.MAX_DEPTH + 1):
        deep = {"in": deep}
    long = {"y" * (state_dicts.MAX_NAME_LENGTH + 1): torch.zeros(1)}
    assert state_dicts.named_tensors({**deep, **long, 3: torch.zeros(1), "z": torch.ones(1)}).keys() == {"z"}
