"""The part decision of a manifest is what result.json found, and the exported direction is the head's."""

import numpy as np
import pytest
import torch

from preprocess.manifest import OutcomeSpec
from tests.trainer.conftest import Finished
from trainer.encoders.change_head import ChangeHead
from trainer.export.decision import decision_part, decision_references
from trainer.fit.run_files import ChangeSummary, HeadSummary
from trainer.fit.trained import Trained, load_trained

OUTCOME = OutcomeSpec(name="adas", higher_is_better=False, threshold=3.0)
NOISE = tuple(np.linspace(0.0, 2.0, 41))


def summary(**changes: object) -> HeadSummary:
    found = {
        "num_people": 30,
        "gain": 1.25,
        "error_sd": 1.4,
        "least_probability": (0.2, 0.5, 0.3),
        "coverage": 0.9,
        "noise_changes": NOISE,
        "log_loss": 0.5,
        "base_rate_log_loss": 1.0,
        "base_rates": (0.2, 0.5, 0.3),
        "other_scanner_errors": tuple(np.linspace(0.0, 4.0, 81)),
    }
    change = ChangeSummary.model_validate(found | changes)
    return HeadSummary(temperature=1.0, l2=0.0, num_train=0, num_validation=70, change=change)


def test_one_scan_rescan_pair_in_twenty_exceeds_the_noise_floor() -> None:
    part = decision_part(summary(), OUTCOME)

    assert part is not None
    assert part.noise is not None
    assert part.noise.percentile_95 == pytest.approx(1.95)  # the 40th of 41: ceil(0.95 * 42)
    assert (part.noise.num_pairs, part.noise.unit) == (41, "points of adas")


def test_one_error_in_twenty_exceeds_the_floor_of_two_scanners() -> None:
    part, without = decision_part(summary(), OUTCOME), decision_part(summary(other_scanner_errors=()), OUTCOME)

    assert part is not None
    assert part.other_scanner is not None
    assert (part.other_scanner.percentile_95, part.other_scanner.num_pairs) == (pytest.approx(3.85), 81)
    assert without is not None
    assert without.other_scanner is None


def test_thresholds_stand_by_class_and_a_log_loss_below_the_base_rates_is_calibrated() -> None:
    good, bad = decision_part(summary(), OUTCOME), decision_part(summary(log_loss=1.0), OUTCOME)

    assert good is not None
    assert bad is not None
    assert good.least_probability == {"improved": 0.2, "stable": 0.5, "declined": 0.3}
    assert good.base_rates == {"improved": 0.2, "stable": 0.5, "declined": 0.3}
    assert (good.num_people, good.num_pairs, good.error_sd) == (30, 70, 1.4)
    assert (good.is_calibrated, bad.is_calibrated) == (True, False)


def test_nobody_scanned_twice_gives_no_noise_floor() -> None:
    part = decision_part(summary(noise_changes=()), OUTCOME)

    assert part is not None
    assert part.noise is None


def test_a_head_on_embeddings_has_no_part_decision(finished: Finished) -> None:
    head = HeadSummary(temperature=1.0, l2=0.0, num_train=20, num_validation=8)

    assert decision_part(head, OUTCOME) is None
    assert decision_references(load_trained(finished.run, finished.store)) == {}


def test_the_direction_tells_the_change_that_the_run_tells(finished: Finished) -> None:
    draws = torch.Generator().manual_seed(3)
    head = ChangeHead(12)
    with torch.no_grad():
        head.direction.weight.copy_(torch.randn((1, 12), generator=draws))
        head.gain.fill_(1.7)
    loaded = load_trained(finished.run, finished.store)
    trained = Trained(loaded.run, loaded.result, loaded.encoder, None, head)
    differences_PE = torch.randn((5, 12), generator=draws).numpy()

    direction_E = decision_references(trained)["change_direction_E"]

    told_P = trained.improvements(differences_PE)
    assert told_P is not None
    np.testing.assert_allclose(differences_PE @ direction_E, told_P, rtol=1e-5)


def test_a_run_of_an_earlier_version_states_no_base_rates() -> None:
    part = decision_part(summary(base_rates=()), OUTCOME)

    assert part is not None
    assert part.base_rates is None
