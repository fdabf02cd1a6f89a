"""Draws of a step depend on its batch alone, leave the process's generators be, and differ between batches."""

import pytest
import torch

from trainer.data.drawing import batch_seed, drawing_for_loss, drawing_for_visits, uniform_rows

CPU = torch.device("cpu")


def test_seeds_of_neighbouring_batches_epochs_and_runs_are_all_different() -> None:
    seeds = {batch_seed(seed, epoch, batch) for seed in range(12) for epoch in range(12) for batch in range(12)}
    assert len(seeds) == 12**3
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert batch_seed(1, 2) != batch_seed(2, 1)


def test_what_is_drawn_does_not_depend_on_the_process_and_does_not_move_its_generator() -> None:
    drawn = []
    for before in (1, 2):
        torch.manual_seed(before)
        state = torch.get_rng_state()
        with drawing_for_loss(7, CPU):
            loss = torch.rand(5)
        with drawing_for_visits(7, CPU, first=0):
            visits = torch.nn.functional.dropout(torch.ones(50))
        assert torch.equal(torch.get_rng_state(), state)
        drawn.append((loss, visits))
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))


def test_the_generator_is_given_back_after_an_error_too() -> None:
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="stop"), drawing_for_visits(7, CPU, first=2):
        raise ValueError("stop")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(0)
    expected = torch.rand(2, 3, dtype=torch.float64)
    torch.manual_seed(0)
    assert torch.equal(uniform_rows(2, 3), expected)


def test_batches_parts_and_loss_draw_otherwise() -> None:
    drawn = []
    for seed in (7, 8):
        for first in (0, 1):
            with drawing_for_visits(seed, CPU, first=first):
                drawn.append(torch.rand(4))
        with drawing_for_loss(seed, CPU):
            drawn.append(torch.rand(4))
    assert len({tuple(one.tolist()) for one in drawn}) == 6


def test_a_visits_row_is_the_same_in_whatever_parts_the_batch_is_embedded() -> None:
    with drawing_for_visits(7, CPU, first=0):
        whole = uniform_rows(9, 4)
    parts = []
    for first, num in ((0, 2), (2, 5), (7, 2)):
        with drawing_for_visits(7, CPU, first=first):
            parts.append(uniform_rows(num, 4))
    assert torch.equal(torch.cat(parts), whole)
    assert len(set(whole.flatten().tolist())) == 36
    assert 0 <= float(whole.min()) < float(whole.max()) < 1
