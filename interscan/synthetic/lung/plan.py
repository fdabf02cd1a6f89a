"""Decides who is scanned when, with which machine, and how much air each zone of the lung has lost; draws no clip."""

import math
from dataclasses import dataclass

import numpy as np

from interscan.synthetic.lung.render import PROBES, ChestWall, Setting
from interscan.synthetic.planning import TRAJECTORIES, Trajectory, check_range, even_share, stream

ZONES = ("anterior", "lateral", "posterior")
"""Where run-1, run-2 and run-3 of a day are taken."""


@dataclass(frozen=True, slots=True)
class LungDesign:
    """The parameters of the cohort, fixed before the first comparison of methods; a change is recorded in docs/log.md.

    Attributes:
        sf_range: S/F of complete and of no loss of aeration. SpO2 98 % on room air (21 %) makes 467; 80 % on pure
            oxygen makes 80.
        start_shares: range of the first aeration (0 at `sf_range[0]`, 1 at `sf_range[1]`) by trajectory. The ranges
            overlap widely; a first value above 0.75 excludes improvement, a confound that is reported, not removed.
        speed_per_day: change of the logit of the aeration a day. 0.25 to 0.5 is 25 to 50 points of S/F a day in the
            middle, several times the threshold of 20, and little near the ends of the scale.
        drift_per_day: the same for those called stable, at most; below 4 points of S/F a day.
        gap_days: days between visits, daily to every third day as on a ward.
        num_visits: visits of a patient where the call does not fix them.
        sf_noise: relative standard deviation of the observed S/F: 2 points of 100 of an oximeter and as much again
            of the inspired oxygen that a mask delivers. At 300 it makes 9 points, so that two visits of a stable
            patient differ by 20 or more once in eight.
        zone_spread: standard deviation of a zone's lasting difference in loss of aeration (0..1); disease is patchy.
        zone_noise: that of a zone on one day, beside the lasting one.
        most_b_lines: B-lines of a zone without any aeration; more merge.
        probe_change: chance that a visit is scanned with the other machine.
    """

    sf_range: tuple[float, float] = (80.0, 480.0)
    start_shares: tuple[tuple[float, float], ...] = ((0.25, 0.95), (0.1, 0.9), (0.05, 0.75))
    speed_per_day: tuple[float, float] = (0.25, 0.5)
    drift_per_day: float = 0.03
    gap_days: tuple[int, int] = (1, 3)
    num_visits: tuple[int, int] = (3, 5)
    sf_noise: float = 0.03
    zone_spread: float = 0.05
    zone_noise: float = 0.05
    most_b_lines: int = 6
    probe_change: float = 0.2


DESIGN = LungDesign()


@dataclass(frozen=True, slots=True)
class PlannedClip:
    """One clip of one zone.

    Attributes:
        run: `run-1`, ...
        zone: where on the chest.
        zone_loss: loss of aeration there, 0 none to 1 complete.
        num_b_lines: B-lines drawn.
    """

    run: str
    zone: str
    zone_loss: float
    num_b_lines: int


@dataclass(frozen=True, slots=True)
class PlannedDay:
    """One visit.

    Attributes:
        session_id: `ses-01`, ...
        day: days since the first visit.
        sf_true: S/F without noise.
        sf_ratio: S/F as observed, a whole number.
        probe: index into `PROBES`.
        setting: depth and gain the operator chose.
        clips: what is recorded.
    """

    session_id: str
    day: int
    sf_true: float
    sf_ratio: int
    probe: int
    setting: Setting
    clips: tuple[PlannedClip, ...]


@dataclass(frozen=True, slots=True)
class PlannedPatient:
    """One patient with all visits in order of time.

    Attributes:
        number: 0, 1, ...; keys the random streams.
        subject_id: `sub-001` for number 0.
        trajectory: declining, stable or improving, for the whole course.
        wall: what lies between probe and lung, and how the patient breathes.
        days: the visits.
    """

    number: int
    subject_id: str
    trajectory: Trajectory
    wall: ChestWall
    days: tuple[PlannedDay, ...]


def describe_lung_cohort(
    *, num_subjects: int = 40, num_visits: int | None = None, seed: int = 0
) -> tuple[PlannedPatient, ...]:
    """Plan a cohort; draws nothing. A longer cohort starts with the shorter one.

    Args:
        num_subjects: patients, from 1.
        num_visits: visits of each, from 1; None for 3 to 5.
        seed: any whole number from 0.

    Raises:
        UsageError: a number is below its limit.
    """
    check_range("num_subjects", num_subjects, 1)
    check_range("num_visits", 1 if num_visits is None else num_visits, 1)
    check_range("seed", seed, 0)
    return tuple(_plan_patient(number, num_visits, seed) for number in range(num_subjects))


def _plan_patient(number: int, num_visits: int | None, seed: int) -> PlannedPatient:
    # 4 declining, 3 stable and 3 improving of ten.
    share = even_share(seed, "lung trajectory", number)
    kind = 0 if share < 0.4 else 1 if share < 0.7 else 2
    person = stream(seed, "lung person", number)
    wall = ChestWall.draw(person)
    depth_mm = float(person.uniform(75, 110))
    home = int(person.integers(len(PROBES)))
    zone_offsets = DESIGN.zone_spread * person.normal(size=len(ZONES))
    low, high = DESIGN.start_shares[kind]
    start = float(person.uniform(low, high))
    speed = float(person.uniform(*DESIGN.speed_per_day))
    drift = float(person.uniform(-DESIGN.drift_per_day, DESIGN.drift_per_day))
    per_day = (-speed, drift, speed)[kind]
    count = int(person.integers(*DESIGN.num_visits, endpoint=True)) if num_visits is None else num_visits

    days: list[PlannedDay] = []
    day = 0
    for visit in range(1, count + 1):
        rng = stream(seed, "lung visit", number, visit)
        if visit > 1:
            day += int(rng.integers(*DESIGN.gap_days, endpoint=True))
        aeration = 1 / (1 + math.exp(-(math.log(start / (1 - start)) + per_day * day)))
        sf_true = DESIGN.sf_range[0] + (DESIGN.sf_range[1] - DESIGN.sf_range[0]) * aeration
        moved = bool(rng.random() < DESIGN.probe_change)
        losses = np.clip(1 - aeration + zone_offsets + DESIGN.zone_noise * rng.normal(size=len(ZONES)), 0, 1)
        days.append(
            PlannedDay(
                session_id=f"ses-{visit:02d}",
                day=day,
                sf_true=sf_true,
                sf_ratio=round(sf_true * (1 + DESIGN.sf_noise * float(rng.normal()))),
                probe=(home + int(moved)) % len(PROBES),
                setting=Setting(depth_mm=depth_mm + float(rng.uniform(-5, 5)), gain_db=float(rng.normal(0, 2.5))),
                clips=tuple(
                    PlannedClip(f"run-{run}", zone, float(loss), round(DESIGN.most_b_lines * float(loss)))
                    for run, (zone, loss) in enumerate(zip(ZONES, losses, strict=True), start=1)
                ),
            )
        )
    return PlannedPatient(number, f"sub-{number + 1:03d}", TRAJECTORIES[kind], wall, tuple(days))
