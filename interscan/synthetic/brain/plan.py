"""Decides who is scanned when, on which scanner, with which atrophy and score; touches no disk and draws no voxel.

Every number comes from a stream of its own, keyed by (seed, purpose, subject, visit): more subjects or more visits
never change earlier ones, and the scanner cannot know the trajectory.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from interscan.synthetic.brain.phantom import Anatomy, draw_anatomy
from interscan.synthetic.brain.scanner import SCANNERS, Scanner
from interscan.synthetic.planning import TRAJECTORIES, Trajectory, check_range

_PURPOSES = ("person", "anatomy", "trajectory", "course", "gap", "score", "scanner", "rescan", "scan")


@dataclass(frozen=True, slots=True)
class CohortDesign:
    """The parameters of the cohort, fixed once; each with its reason, none tuned to a method.

    Attributes:
        score_range: points of full atrophy: score = score_range * (1 - atrophy). The scale of the mini-mental state
            examination.
        start_points: where anyone starts. 14 to 30 spans moderate dementia to health, so that scores differ between
            people.
        improver_points: where those who improve start. Two visits gain 9 points on average; from 20 there is still
            room. The ranges overlap, but a start above 20 excludes improvement: the first score is a baseline to
            report next to any method.
        points_per_year: size of a change. Over 180 to 400 days it makes 2.6 to 6.8 points, above the threshold of 2.
        drift_per_year: what those called stable change at most, far below the threshold.
        noise_points: standard deviation of the test itself before rounding. Differences of two tests then have 0.85,
            so that about one stable pair in ten looks changed: labels are noisy, as they are in a clinic.
        gap_days: days between visits, irregular as in observational cohorts.
        scanner_change: chance that a visit happens on the other scanner than the subject's own.
        rescan_every: one subject in so many is scanned twice on one day. A third gives a noise floor from small
            cohorts too.
        age_years: ages at the first visit. Age has no effect on the score, and on anatomy only in a cohort that ages.
    """

    score_range: float = 30.0
    start_points: tuple[float, float] = (14.0, 30.0)
    improver_points: tuple[float, float] = (14.0, 20.0)
    points_per_year: tuple[float, float] = (5.2, 6.2)
    drift_per_year: float = 0.3
    noise_points: float = 0.6
    gap_days: tuple[int, int] = (180, 400)
    scanner_change: float = 0.25
    rescan_every: int = 3
    age_years: tuple[int, int] = (60, 85)


DESIGN = CohortDesign()


@dataclass(frozen=True, slots=True)
class PlannedSession:
    """One session of one subject, with its truth.

    Attributes:
        session_id: `ses-02`; a repeat on the same day is `ses-02r`.
        visit: 1 for the first visit; a repeat shares the number.
        day: days since the first visit.
        atrophy: 0 none to 1 severe.
        mmse_true: score without noise.
        mmse: observed score, a whole number from 0 to 30.
        scanner: index into `SCANNERS`.
        rescan_of: session that this one repeats; empty for an ordinary visit.
    """

    session_id: str
    visit: int
    day: int
    atrophy: float
    mmse_true: float
    mmse: int
    scanner: int
    rescan_of: str = ""

    @property
    def machine(self) -> Scanner:
        """The scanner itself."""
        return SCANNERS[self.scanner]


@dataclass(frozen=True, slots=True)
class PlannedSubject:
    """One subject with all sessions in order of time, a repeat right after what it repeats.

    Attributes:
        number: 0, 1, ...; keys the random streams.
        subject_id: `sub-001` for number 0.
        age: years at the first visit.
        sex: `F` or `M`; without effect.
        site: where the subject belongs; its scanner makes most of the scans.
        trajectory: declining, stable or improving, for the whole course.
        sessions: what is scanned.
    """

    number: int
    subject_id: str
    age: int
    sex: Literal["F", "M"]
    site: str
    trajectory: Trajectory
    sessions: tuple[PlannedSession, ...]


def describe_brain_cohort(
    *, num_subjects: int = 24, num_visits: int = 3, seed: int = 0, score_noise: float = DESIGN.noise_points
) -> tuple[PlannedSubject, ...]:
    """Plan a cohort: subjects, visits, trajectories, days and scores.

    Args:
        num_subjects: at least 1; any three consecutive from the start of a block of ten hold all trajectories.
        num_visits: at least 1, repeats not counted.
        seed: any whole number from 0.
        score_noise: standard deviation of the test itself, in points before rounding, 0 to 10.

    Returns:
        The subjects in order; a longer cohort starts with the shorter one.

    Raises:
        UsageError: a number is beyond its limits.
    """
    check_range("num_subjects", num_subjects, 1)
    check_range("num_visits", num_visits, 1)
    check_range("seed", seed, 0)
    check_range("score_noise", score_noise, 0, 10)
    return tuple(_plan_subject(number, num_visits, seed, score_noise) for number in range(num_subjects))


def subject_anatomy(seed: int, number: int) -> Anatomy:
    """The anatomy of a subject by number; nothing of the plan goes into it."""
    return draw_anatomy(_stream(seed, "anatomy", number))


def scan_stream(seed: int, number: int, session: PlannedSession) -> np.random.Generator:
    """Everything random about one scan: pose, bias of the day, noise."""
    return _stream(seed, "scan", number, session.visit, int(bool(session.rescan_of)))


def _stream(seed: int, purpose: str, *key: int) -> np.random.Generator:
    return np.random.default_rng([seed, _PURPOSES.index(purpose), *key])


def _trajectory(seed: int, number: int) -> Trajectory:
    """Ten consecutive subjects hold 4 declining, 3 stable and 3 improving; the first three hold one each."""
    block, index = divmod(number, 10)
    rng = _stream(seed, "trajectory", block)
    order = [*rng.permutation([0, 1, 2]), *rng.permutation([0, 0, 0, 1, 1, 2, 2])]
    return TRAJECTORIES[int(order[index])]


def _plan_subject(number: int, num_visits: int, seed: int, score_noise: float) -> PlannedSubject:
    trajectory = _trajectory(seed, number)
    person = _stream(seed, "person", number)
    age = int(person.integers(DESIGN.age_years[0], DESIGN.age_years[1], endpoint=True))
    sex: Literal["F", "M"] = "F" if person.random() < 0.5 else "M"
    home = int(_stream(seed, "scanner", number).integers(len(SCANNERS)))

    course = _stream(seed, "course", number)
    where, speed = float(course.random()), float(course.random())
    low, high = DESIGN.improver_points if trajectory == "improving" else DESIGN.start_points
    start = low + (high - low) * where
    size = DESIGN.points_per_year[0] + (DESIGN.points_per_year[1] - DESIGN.points_per_year[0]) * speed
    drift = DESIGN.drift_per_year * (2 * speed - 1)
    per_year = {"declining": -size, "stable": drift, "improving": size}[trajectory]

    repeated_visit = 0
    if number % DESIGN.rescan_every == DESIGN.rescan_every - 1:
        repeated_visit = min(num_visits, 1 + int(_stream(seed, "rescan", number).integers(2)))

    sessions: list[PlannedSession] = []
    day = 0
    for visit in range(1, num_visits + 1):
        if visit > 1:
            day += int(_stream(seed, "gap", number, visit).integers(*DESIGN.gap_days, endpoint=True))
        mmse_true = float(np.clip(start + per_year * day / 365.25, 0.0, DESIGN.score_range))
        test = mmse_true + score_noise * float(_stream(seed, "score", number, visit).normal())
        moved = _stream(seed, "scanner", number, visit).random() < DESIGN.scanner_change
        session = PlannedSession(
            session_id=f"ses-{visit:02d}",
            visit=visit,
            day=day,
            atrophy=1 - mmse_true / DESIGN.score_range,
            mmse_true=mmse_true,
            mmse=int(np.clip(np.rint(test), 0, DESIGN.score_range)),
            scanner=(home + int(moved)) % len(SCANNERS),
        )
        sessions.append(session)
        if visit == repeated_visit:
            sessions.append(_repeat(session))
    site = SCANNERS[home].name.split("-")[0]
    return PlannedSubject(number, f"sub-{number + 1:03d}", age, sex, site, trajectory, tuple(sessions))


def _repeat(session: PlannedSession) -> PlannedSession:
    """The same day once more on the same scanner: same truth and score, new pose and noise."""
    return PlannedSession(
        session_id=f"{session.session_id}r",
        visit=session.visit,
        day=session.day,
        atrophy=session.atrophy,
        mmse_true=session.mmse_true,
        mmse=session.mmse,
        scanner=session.scanner,
        rescan_of=session.session_id,
    )
