"""The encoder of visits standardises arrays itself, reads nothing of what is absent, and joins unit embeddings."""

import numpy as np
import pytest
import torch

from preprocess.errors import UsageError
from trainer.data.standards import Standard
from trainer.encoders.multimodal import ModalitySpec
from trainer.encoders.visits import VisitEncoder, modality_spec

SPECS = {"SC": ModalitySpec("matrix", (6, 6)), "clinical": ModalitySpec("vector", (4,))}
WITH_VOLUME = {**SPECS, "T2": ModalitySpec("volume", (1, 32, 32, 32))}
PRESENT = torch.tensor([[True, True, True], [False, True, True], [True, False, True], [True, True, False]])


def encoder_of(specs: dict[str, ModalitySpec], seed: int = 0) -> VisitEncoder:
    torch.manual_seed(seed)
    return VisitEncoder(specs, embedding_width=3)


def inputs_of(specs: dict[str, ModalitySpec], num: int = 4, seed: int = 1) -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return {name: torch.rand(num, *spec.shape, generator=draws) for name, spec in specs.items()}


def test_arrays_are_standardised_before_they_are_embedded_and_volumes_are_not() -> None:
    encoder = encoder_of(WITH_VOLUME).eval()
    assert encoder.standardised == ("SC", "clinical")
    encoder.set_standard("SC", Standard(np.array(3.0), np.array(2.0)))
    encoder.set_standard("clinical", Standard(np.arange(4.0), np.array([1.0, 2.0, 4.0, 8.0])))
    inputs = inputs_of(WITH_VOLUME)
    by_hand = {
        "SC": (inputs["SC"] - 3.0) / 2.0,
        "clinical": (inputs["clinical"] - torch.arange(4.0)) / torch.tensor([1.0, 2.0, 4.0, 8.0]),
        "T2": inputs["T2"],
    }
    with torch.no_grad():
        torch.testing.assert_close(encoder(inputs, PRESENT), encoder.network(by_hand, PRESENT))


def test_means_and_sds_travel_with_the_weights() -> None:
    encoder = encoder_of(SPECS)
    encoder.set_standard("clinical", Standard(np.arange(4.0), np.full(4, 2.0)))
    other = encoder_of(SPECS, seed=5)
    other.load_state_dict(encoder.state_dict())
    inputs, present = inputs_of(SPECS), PRESENT[:, :2]
    assert torch.equal(other(inputs, present), encoder(inputs, present))


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_what_stands_in_absent_slots_changes_no_bit_of_output_gradient_or_statistic(garbage: float) -> None:
    results = []
    for filler in (0.0, garbage):
        encoder = encoder_of(WITH_VOLUME).train()
        encoder.set_standard("clinical", Standard(np.arange(4.0), np.full(4, 2.0)))
        inputs = inputs_of(WITH_VOLUME)
        for column, name in enumerate(WITH_VOLUME):
            inputs[name][~PRESENT[:, column]] = filler
        torch.manual_seed(7)  # dropout
        embeddings = encoder(inputs, PRESENT)
        joined = encoder.join(embeddings, PRESENT)
        torch.autograd.backward(joined.square().sum() + joined[:, 0].sum() + encoder.fuse(embeddings, PRESENT).sum())
        gradients = [one.grad for one in encoder.parameters()]
        results.append([embeddings, joined, *gradients, *encoder.buffers()])
    for plain, other in zip(*results, strict=True):
        assert torch.equal(plain, other)
        assert plain.isfinite().all()


def test_the_join_is_unit_embeddings_side_by_side_over_their_norm() -> None:
    encoder = encoder_of(WITH_VOLUME)
    modalities = torch.randn(4, 3, 3)
    modalities[0] *= 1000
    found = encoder.join(modalities, PRESENT).numpy()
    assert encoder.joined_width == found.shape[1] == 9
    for visit in range(4):
        units = [
            (one / np.linalg.norm(one)) if here else np.zeros(3)
            for one, here in zip(modalities[visit].numpy(), PRESENT[visit], strict=True)
        ]
        expected = np.concatenate(units)
        np.testing.assert_allclose(found[visit], expected / np.linalg.norm(expected), atol=1e-6)


def test_the_stores_kinds_become_those_of_the_encoder() -> None:
    assert modality_spec("SC", "array", (87, 87)) == ModalitySpec("matrix", (87, 87))
    assert modality_spec("clinical", "array", (8,)) == ModalitySpec("vector", (8,))
    assert modality_spec("T2", "volume", (1, 32, 40, 32)) == ModalitySpec("volume", (1, 32, 40, 32))


@pytest.mark.parametrize(
    ("kind", "shape"), [("clip", (8, 1, 96, 96)), ("image", (1, 96, 96)), ("volume", (1, 16, 32, 32))]
)
def test_rows_it_has_no_encoder_for_are_refused_with_the_name_and_the_remedy(kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(
        UsageError, match=rf"LUS: encoder 'multimodal' takes .* this is a {kind} of shape .* leave it out"
    ):
        modality_spec("LUS", kind, shape)  # type: ignore[arg-type]
