"""Inference against the same module run eagerly."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from app.engine import Engine
from tests.support.artefacts import RECIPE, WIDTH, TinyJudge, TinyModel, TinySeverity

VOLUMES = np.random.default_rng(1).integers(0, 256, (5, 1, *RECIPE.grid), dtype=np.uint8)


@pytest.mark.parametrize(("dtype", "highest"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_stored_values_reach_the_model_as_float32_between_0_and_1(dtype, highest):
    seen: list[torch.Tensor] = []

    class Spy:
        def embed(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
            seen.append(volumes_BCDHW)
            return volumes_BCDHW.flatten(1)

        def compare(self, earlier_BCDHW: torch.Tensor, later_BCDHW: torch.Tensor) -> torch.Tensor:
            return earlier_BCDHW

    Engine(Spy()).embed(np.asarray([0, highest], dtype=dtype).reshape(1, 1, 1, 1, 2))

    assert seen[0].dtype == torch.float32
    assert seen[0].flatten().tolist() == [0.0, 1.0]


def test_a_batch_gives_what_its_volumes_give_alone():
    engine = Engine(TinyModel().eval())

    together = engine.embed(VOLUMES)

    assert together.shape == (5, WIDTH)
    assert together.dtype == np.float32
    for number, volume in enumerate(VOLUMES):
        np.testing.assert_allclose(engine.embed(volume[None])[0], together[number], rtol=1e-5)


def test_probabilities_have_one_row_a_pair_and_add_up_to_1():
    probabilities_B3 = Engine(TinyModel().eval()).compare(VOLUMES[:2], VOLUMES[2:4])

    assert probabilities_B3.shape == (2, 3)
    np.testing.assert_allclose(probabilities_B3.sum(1), 1, rtol=1e-6)


def test_a_pair_is_judged_from_its_embeddings_as_from_its_scans():
    engine = Engine(TinyJudge().eval())
    earlier_BE, later_BE = engine.embed(VOLUMES[:2]), engine.embed(VOLUMES[2:4])

    judged_B3 = engine.judge(later_BE - earlier_BE)

    np.testing.assert_allclose(judged_B3, engine.compare(VOLUMES[:2], VOLUMES[2:4]), rtol=1e-6)
    assert judged_B3.dtype == np.float32
    assert (engine.can_judge, Engine(TinyModel().eval()).can_judge) == (True, False)


def test_the_program_is_never_entered_twice_at_once():
    entered, overlaps = threading.Semaphore(1), []

    class Slow:
        def embed(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
            overlaps.append(not entered.acquire(blocking=False))
            threading.Event().wait(0.01)
            entered.release()
            return volumes_BCDHW.flatten(1)

        def compare(self, earlier_BCDHW: torch.Tensor, later_BCDHW: torch.Tensor) -> torch.Tensor:
            return earlier_BCDHW

    engine = Engine(Slow())
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: engine.embed(VOLUMES[:1]), range(12)))

    assert overlaps == [False] * 12


def test_severity_of_a_batch_is_what_its_scans_have_alone():
    engine = Engine(TinySeverity(torch.linspace(-1, 1, WIDTH), 3).eval())

    together = engine.severity(VOLUMES)

    assert together.shape == (5,)
    assert together.dtype == np.float32
    for number, volume in enumerate(VOLUMES):
        np.testing.assert_allclose(engine.severity(volume[None])[0], together[number], atol=1e-6)
