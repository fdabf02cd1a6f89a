"""Every network that is exported passes the check, and no program that could do more than compute."""

from pathlib import Path
from typing import Any

import pytest
import torch

from app.program_check import ARITHMETIC, EXPORTED, OPERATORS, check_code, checked_program
from app.registry import load_artefact, load_program
from preprocess.errors import ArtefactError
from preprocess.manifest import PROGRAM_NAME
from tests.support.artefacts import rewrite_file, write_artefact
from tests.support.programs import entries, scripted
from trainer.encoders import ProgressionHead, build_encoder
from trainer.encoders.change_head import ChangeHead
from trainer.encoders.ensemble import EnsembleEncoder
from trainer.encoders.linear_score import CoarseBrightness, LinearScore, WithLinearScore
from trainer.encoders.mirrored import MirroredEncoder
from trainer.export import programs
from trainer.export.severity import SeverityModel
from trainer.fit.trained import PairModel

SHAPES: dict[Any, tuple[int, ...]] = {
    "reference": (1, 16, 16, 16),
    "fast": (1, 16, 16, 16),
    "slice-tsm-resnet18": (1, 16, 16, 16),
    "tsm-resnet18": (9, 1, 32, 32),
    "resnet50": (1, 32, 32),
    "resnet18": (1, 32, 32),
}
LARGE = (1, 32, 32, 32)


def exported(model: PairModel | SeverityModel, shape: tuple[int, ...]) -> bytes:
    """model.ts as the exporter writes it; the torch.export programs beside it take minutes, and are not loaded."""
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        inputs = {one.name: one.draw(3, draws) for one in programs._methods(model.eval(), shape)}
        return programs._torchscript(model, inputs)[0]


def change_network() -> WithLinearScore:
    """A member of the recipe `change`, smaller."""
    network = build_encoder("fast", in_channels=1, embedding_width=8, shrink=2)
    return WithLinearScore(MirroredEncoder(network), LinearScore(4, 1))


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("name", list(SHAPES))
def test_every_encoder_passes_as_it_is_exported(name: Any, norm: Any) -> None:
    encoder = build_encoder(name, in_channels=1, embedding_width=8, norm=norm)
    load_program(exported(SeverityModel(encoder, torch.randn(8)), SHAPES[name]))


@pytest.mark.parametrize("head", ["change", "plain", "hidden"])
def test_every_head_passes_and_so_do_ensembles_with_a_ridge_beside_them(head: str) -> None:
    for encoder in (EnsembleEncoder([change_network(), change_network()]), CoarseBrightness(4, 1)):
        width = encoder.width_joined()
        kinds = {"change": ChangeHead(width), "plain": ProgressionHead(width), "hidden": ProgressionHead(width, 16)}
        program: Any = load_program(exported(PairModel(encoder, kinds[head], temperature=1.3), LARGE))
        volumes = torch.rand(2, *LARGE)
        with torch.inference_mode():
            torch.testing.assert_close(program.embed(volumes), encoder.eval()(volumes), rtol=0, atol=1e-5)


def test_every_operator_on_the_list_is_one_of_pytorch() -> None:
    known = {one.name for one in torch._C._jit_get_all_schemas()} | {"prim::RaiseException"}
    named = {f"aten::{one}" for one in EXPORTED | ARITHMETIC} | {"prim::NumToTensor", "prim::RaiseException"}
    assert named - known == set()
    assert not EXPORTED & ARITHMETIC


class _Writes(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "harm")
        return x


class _Maps(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("/etc/hostname", False, 4)


class _Prints(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print(x)
        return x


class _Loops(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while bool(x.sum() > 0):
            x = x + 1
        return x


class _Forks(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.jit.wait(torch.jit.fork(torch.relu, x))


class _Allocates(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.zeros([1 << 40])


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("module", "message"),
    [
        (_Writes, "the operator aten::save"),
        (_Maps, "the operator aten::from_file"),
        (_Prints, "the function print"),
        (_Loops, "the statement or expression While"),
        (_Forks, "the function fork"),
        (_Allocates, "the operator aten::zeros"),
    ],
)
def test_a_module_that_does_more_than_compute_is_refused_by_operator(module: Any, message: str) -> None:
    data = scripted(module())
    with pytest.raises(ArtefactError, match=rf"^model\.ts: code/\S+\.py, line \d+: {message}, which no") as caught:
        load_program(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('x.save("harm")', "the method save"),
        ('(torch.relu(x)).save("harm")', "the method save"),
        ('f = torch.save\n  f(x, "harm")', "the operator aten::save|the function f"),
        ('f = x.save\n  f("harm")', "the function f"),
        ('f = __torch__.M.go\n  f = x.save\n  f("harm")', "the function f"),
        ('t = torch\n  t.save(x, "harm")', "the module torch as a value|the method save"),
        ('getattr(x, "save")("harm")', "a call of what is neither"),
        ('[x.save][0]("harm")', "a call of what is neither"),
        ("ops.custom.run(x)", "the operator custom::run"),
        ("ops.aten.save(x)", "the operator aten::save"),
        ("o = ops.custom\n  o.run(x)", "the operator custom|the method run"),
        ("torch.ops.custom.run(x)", "the operator torch.ops.custom::run"),
        ('torch.classes.x.Y("lib.so")', "torch.classes"),
        ('__torch__.torch.classes.x.Y("lib.so")', r"the class __torch__\.torch\.classes\.x\.Y of a library"),
        ("c = __torch__\n  c.torch.classes.x.Y(1)", "the module __torch__ as a value|the method Y"),
        ("y : __torch__.torch.classes.x.Y = x", r"the class __torch__\.torch\.classes\.x\.Y"),
        ("import os", "the statement or expression Import"),
        ("for i in x:\n    pass", "the statement or expression For"),
        ("with x:\n    pass", "the statement or expression With"),
        ("y = [torch.relu(i) for i in x]", "the statement or expression ListComp"),
        ("y = lambda: x", "the statement or expression Lambda"),
        ('y = f"{x}"', "the statement or expression JoinedStr"),
        ('y = b"x"', "a constant of type bytes"),
        ("y = (x", "is not TorchScript"),
        ("y = " + "(" * 500 + "x" + ")" * 500, "is not TorchScript"),
        ("y = " + "-" * 100_000 + "x", "is not TorchScript"),
    ],
)
def test_no_way_around_the_list_passes(line: str, message: str) -> None:
    source = f"def forward(self: __torch__.M, x: Tensor) -> Tensor:\n  {line}\n  return x\n"
    with pytest.raises(ArtefactError, match=message) as caught:
        check_code(source, name="code.py")
    assert "\n" not in str(caught.value)


def test_an_artefact_is_refused_before_its_program_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_artefact(tmp_path / "tiny")
    rewrite_file(folder, PROGRAM_NAME, scripted(_Writes()))

    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("the program was opened")

    monkeypatch.setattr(torch.jit, "load", opened)
    with pytest.raises(ArtefactError, match=r"tiny/model\.ts: code/\S+, line \d+: the operator aten::save, .*trust$"):
        load_artefact(str(folder))


def test_what_is_loaded_is_what_was_checked() -> None:
    data = scripted(_Prints().eval())
    assert b"print" in b"".join(entries(data).values())
    good = exported(PairModel(CoarseBrightness(4, 1), ProgressionHead(64), temperature=1.0), LARGE)
    packed = entries(checked_program(good, name="model.ts").getvalue())
    assert packed.items() <= {f"archive/{name.partition('/')[2]}": one for name, one in entries(good).items()}.items()
    assert "torch.add" in OPERATORS
