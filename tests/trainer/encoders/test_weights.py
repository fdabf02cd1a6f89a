"""Initial weights: what is copied, from where, and what is refused without a change."""

import hashlib
import io
import pickle
import sys
from collections import OrderedDict
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import save as save_safetensors
from torch import nn

from preprocess.errors import StorageError, UsageError
from trainer.encoders.weights import load_weights


def network(seed: int, width: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, width, 3), norm=nn.BatchNorm2d(width), fc=nn.Linear(width, 2)))
    net.norm.running_mean.normal_()
    return net


def as_bytes(state: object) -> bytes:
    sink = io.BytesIO()
    torch.save(state, sink)
    return sink.getvalue()


def written(path: Path, state: object) -> str:
    path.write_bytes(as_bytes(state))
    return str(path)


def is_alike(first: nn.Module, second: nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


# What is copied


def test_weights_and_statistics_are_copied_and_the_digest_of_the_file_is_told(tmp_path):
    source, target = network(0), network(1)
    uri = written(tmp_path / "weights.pt", source.state_dict())
    assert not is_alike(source, target)
    assert load_weights(target, uri) == hashlib.sha256(Path(uri).read_bytes()).hexdigest()
    assert is_alike(source, target)


def test_safetensors_are_read_too(tmp_path):
    source, target = network(0), network(1)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save_safetensors(source.state_dict()))
    load_weights(target, str(path))
    assert is_alike(source, target)


@pytest.mark.parametrize("nested", [True, False])
def test_prefix_chooses_a_part_of_a_larger_file_and_leaves_the_rest_unread(tmp_path, nested):
    source, target = network(0), network(1)
    state = source.state_dict()
    parts = {"encoder": state} if nested else {f"encoder.{name}": value for name, value in state.items()}
    uri = written(tmp_path / "model.pt", {**parts, "head": {"weight": torch.ones(2)}, "step": 7, "note": "x"})
    load_weights(target, uri, prefix="encoder.")
    assert is_alike(source, target)


def test_weights_come_from_memory_and_from_a_url():
    source, target = network(0), network(1)
    fsspec.filesystem("memory").pipe_file("/models/weights.pt", as_bytes(source.state_dict()))
    load_weights(target, "memory://models/weights.pt")
    assert is_alike(source, target)


@pytest.mark.bucket
def test_weights_come_from_a_bucket(bucket):
    source, target = network(0), network(1)
    with fsspec.open(f"{bucket}/models/weights.pt", "wb") as sink:
        sink.write(as_bytes(source.state_dict()))
    load_weights(target, f"{bucket}/models/weights.pt")
    assert is_alike(source, target)


def test_files_without_the_counter_of_batches_are_taken(tmp_path):
    source, target = network(0), network(1)
    state = {name: value for name, value in source.state_dict().items() if name != "norm.num_batches_tracked"}
    load_weights(target, written(tmp_path / "old.pt", state))
    assert is_alike(source, target)


def test_half_precision_weights_become_those_of_the_modules_own_precision(tmp_path):
    source, target = network(0), network(1)
    state = {name: value.half() if value.is_floating_point() else value for name, value in source.state_dict().items()}
    load_weights(target, written(tmp_path / "half.pt", state))
    assert target.conv.weight.dtype == torch.float32
    assert torch.equal(target.conv.weight, source.conv.weight.half().float())


# What is refused


def refusal(module: nn.Module, uri: str, prefix: str = "") -> str:
    """The one line of the refusal, after which the module is what it was."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(UsageError) as caught:
        load_weights(module, uri, prefix=prefix)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    line = str(caught.value)
    assert line.startswith(uri)
    assert "\n" not in line
    return line


def test_missing_unexpected_and_mis_shaped_names_are_named_in_one_line_with_both_shapes(tmp_path):
    state = network(0).state_dict()
    state["fc.weight"] = torch.zeros(1000, 3)
    state["head.weight"] = state.pop("conv.bias")
    line = refusal(network(1), written(tmp_path / "w.pt", state))
    assert "not the weights of Sequential" in line
    assert "missing conv.bias; unexpected head.weight; of another shape fc.weight (1000, 3) instead of (2, 3)" in line


def test_five_names_are_listed_and_the_others_counted(tmp_path):
    state = network(0).state_dict() | {f"extra{number}": torch.zeros(1) for number in range(7)}
    line = refusal(network(1), written(tmp_path / "w.pt", state))
    assert "unexpected extra0, extra1, extra2, extra3, extra4 and 2 more;" in line
    line = refusal(network(1, width=4), written(tmp_path / "w.pt", network(0).state_dict()))
    assert "conv.weight (3, 1, 3, 3) instead of (4, 1, 3, 3), " in line
    assert line.count("instead of") == 5
    assert "and 2 more" in line


def test_a_prefix_that_no_name_has_is_told_with_the_names_there_are(tmp_path):
    uri = written(tmp_path / "w.pt", network(0).state_dict())
    line = refusal(network(1), uri, prefix="encoder.")
    assert "no name begins with 'encoder.'; it holds conv.weight, conv.bias" in line
    assert "there are no names; it holds nothing" in refusal(network(1), written(tmp_path / "e.pt", {}))


class _Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run_it(tmp_path):
    harm = tmp_path / "harm"
    uri = written(tmp_path / "w.pt", {"conv.weight": _Harmful(harm)})
    assert "holds more than tensors" in refusal(network(1), uri)
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(_Harmful(harm)))
    assert "no file of torch.save" in refusal(network(1), str(plain))
    old = tmp_path / "old.pt"
    torch.save({"conv.weight": _Harmful(harm)}, old, _use_new_zipfile_serialization=False)
    assert "holds more than tensors" in refusal(network(1), str(old))
    assert not harm.exists()


def test_whole_modules_lists_and_values_that_are_no_tensors_are_refused(tmp_path):
    assert "holds more than tensors" in refusal(network(1), written(tmp_path / "m.pt", network(0)))
    assert "holds a list; give a state dict" in refusal(network(1), written(tmp_path / "l.pt", [torch.zeros(1)]))
    mixed = {"state": network(0).state_dict(), "epoch": 3, "note": "x"}
    line = refusal(network(1), written(tmp_path / "d.pt", mixed))
    assert "not tensors: epoch (int), note (str); give a state dict, or the prefix" in line


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, is_zip):
    path = tmp_path / "w.pt"
    torch.save(network(0).state_dict(), path, _use_new_zipfile_serialization=is_zip)
    whole = path.read_bytes()
    for kept_bytes in range(0, len(whole), 23):
        path.write_bytes(whole[:kept_bytes])
        assert "damaged" in refusal(network(1), str(path))


def test_files_from_before_torch_1_6_are_read(tmp_path):
    source, target = network(0), network(1)
    torch.save(source.state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    load_weights(target, str(tmp_path / "w.pt"))
    assert is_alike(source, target)


@pytest.mark.parametrize("seed", range(20))
def test_bytes_that_are_no_weights_are_refused(tmp_path, seed):
    noise = torch.randint(0, 256, (300,), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(noise.numpy().tobytes())
        assert "damaged" in refusal(network(1), str(tmp_path / name))


def test_a_missing_file_is_a_wrong_path_and_a_refusing_disk_a_storage_error(tmp_path):
    assert "there is no such file of weights" in refusal(network(1), str(tmp_path / "absent.pt"))
    with pytest.raises(StorageError, match=str(tmp_path)):
        load_weights(network(1), str(tmp_path))


def test_safetensors_without_its_package_names_the_package(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_bytes(save_safetensors(network(0).state_dict()))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert "the package safetensors is not installed" in refusal(network(1), str(path))
