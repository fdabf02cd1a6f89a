"""Days of a subject's visits: as tables write them, or counted from dates; and whether they can be true. Pure.

A day has no codes for missing: -4 is four days before the first. Days that contradict each other are said, and where
all visits of a person lie on one day without being marked as repeats, or all dates of a data set are one placeholder,
there are no days: gaps made of them would be no gaps, and a noise floor no noise.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import pairwise

from preprocess.sources.reconciliation import Reconciliation
from preprocess.sources.scores import number
from preprocess.sources.sentinels import FAR
from preprocess.sources.tables import DAY_COLUMNS, MISSING, TIME_COLUMNS

PLACEHOLDER = date(1925, 1, 1)
"""What BIDScoin writes for every scan: the latest shifted date that BIDS allows."""
_LONGEST_DAYS = 36525.0
"""A century: nobody is followed for longer."""
_JOIN_SLACK_DAYS = 7
_REPEAT = re.compile(r"re-?test|re-?scan|test|repeat|rep\d*|scan\d+|(?<=\d)r\d*", re.IGNORECASE)
_MONTH_LABEL = re.compile(r"(?:ses-)?m(\d{1,3})", re.IGNORECASE)
_DAY_LABEL = re.compile(r"(?:ses-)?d(?:ay)?-?(\d{1,5})", re.IGNORECASE)


@dataclass(slots=True)
class Times:
    """What tables say of a subject's visits, by visit.

    Attributes:
        days: as written.
        dates: acquisition dates and times.
    """

    days: dict[str, float] = field(default_factory=dict)
    dates: dict[str, datetime] = field(default_factory=dict)


def read_times(rows: Iterable[tuple[str, Mapping[str, str]]], *, where: str, account: Reconciliation) -> Times:
    """Days and dates of one subject.

    Args:
        rows: visit and cells; of several rows with one visit the first that says anything wins.
        where: put in front of the visit in messages.
        account: gets a remark for each cell that is no day or date.
    """
    times = Times()
    for key, row in rows:
        written = _day(row, f"{where}{key}", account)
        if written is not None:
            times.days.setdefault(key, written)
        dated = _date(row, f"{where}{key}", account)
        if dated is not None:
            times.dates.setdefault(key, dated)
    return times


def _day(row: Mapping[str, str], where: str, account: Reconciliation) -> float | None:
    for column in DAY_COLUMNS:
        cell = row.get(column, "")
        if cell.lower() in MISSING:
            continue
        value = number(cell)
        if value is None:
            message = f"{where}: {column} {cell[:40]!r} is not a number of days; write one, such as 365"
            account.add("not_a_day", f"{where} {column}", message)
            return None
        if abs(value) > _LONGEST_DAYS:
            message = (
                f"{where}: {column} {value:g} is more than {_LONGEST_DAYS:g} days (a century) from the first; "
                "the visit has no day, correct the table"
            )
            account.add("day_implausible", f"{where} {column}", message)
            return None
        if value in FAR:
            message = f"{where}: {column} {value:g} is read as a day; write n/a if it stands for a missing one"
            account.add("day_like_code", f"{where} {column}", message)
        return value
    return None


def _date(row: Mapping[str, str], where: str, account: Reconciliation) -> datetime | None:
    for column in TIME_COLUMNS:
        cell = row.get(column, "")
        if cell.lower() in MISSING:
            continue
        try:
            return datetime.fromisoformat(cell).replace(tzinfo=None)
        except ValueError:
            message = f"{where}: {column} {cell[:40]!r} is not an ISO date; write YYYY-MM-DD"
            account.add("not_a_date", f"{where} {column}", message)
            return None
    return None


def count_days(times: Times, *, where: str, account: Reconciliation) -> dict[str, float]:
    """Days by visit: as written, or counted from dates.

    Where the table writes days for some visits and only dates for others, the dates are counted from a visit that has
    both; without such a visit they stay unknown, since nothing says on which day the first date lies.
    """
    known = dict(times.days)
    both = [key for key in times.dates if key in known]
    for key in both[1:]:
        apart = (times.dates[key].date() - times.dates[both[0]].date()).days
        if abs(apart - (known[key] - known[both[0]])) > _JOIN_SLACK_DAYS:
            message = (
                f"{where}{key}: days say {known[key] - known[both[0]]:g} after {both[0] or 'the first'}, dates say "
                f"{apart}; the days are taken, correct one of them"
            )
            account.add("days_contradict", f"{where}{key}", message)
    waiting = [key for key in times.dates if key not in known]
    if not waiting:
        return known
    if not both and known:
        message = f"{where}{waiting[0]}: a date, but other visits have days; write days for all, or both for one"
        account.add("days_unjoined", f"{where}{waiting[0]}", message)
        return known
    zero, zero_day = (times.dates[both[0]], known[both[0]]) if both else (min(times.dates.values()), 0.0)
    return {**{key: zero_day + (times.dates[key].date() - zero.date()).days for key in waiting}, **known}


def is_placeholder(everyone: Sequence[Mapping[str, datetime]]) -> bool:
    """Whether all dates of a data set are one and the same, so that they say nothing.

    Args:
        everyone: the dates of each subject by visit.
    """
    dates = {dated.date() for person in everyone for dated in person.values()}
    num_dated = sum(bool(person) for person in everyone)
    is_repeated = any(len(person) > 1 for person in everyone)
    return len(dates) == 1 and is_repeated and (num_dated > 1 or dates == {PLACEHOLDER})


def believable(
    days: Mapping[str, float],
    times: Times,
    *,
    placeholder: bool,
    where: str,
    account: Reconciliation,
    sessions: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """The days, or none where all of a person's visits lie on one day that cannot be theirs.

    Args:
        days: by visit.
        times: what they were made of.
        placeholder: whether all dates of the data set are the same.
        where: what messages call the subject.
        account: gets a remark where days are not believed, or go against the labels of the sessions.
        sessions: session by visit, where visits are told apart by more; the visit itself when not given.
    """
    labels = {key: key if sessions is None else sessions.get(key, "") for key in days}
    by_label: dict[str, float] = {}
    for key in days:
        by_label.setdefault(labels[key], days[key])
    _say_against_labels(by_label, where, account)
    if len(by_label) < 2 or len(set(by_label.values())) > 1:
        return dict(days)
    from_dates = all(key in times.dates and key not in times.days for key in days)
    if not (from_dates and placeholder) and _are_repeats(
        by_label, [times.dates[key] for key in days if key in times.dates]
    ):
        return dict(days)
    first = next(iter(days))
    what = f"on {times.dates[first].date()}" if from_dates else f"on day {days[first]:g}"
    if from_dates and placeholder:
        what += ", like every scan of the data set"
    message = (
        f"{where}: all {len(by_label)} sessions {what}, so they get no day; give each session its acq_time or day "
        "(true repeats: different times, or names such as test and retest)"
    )
    account.add("days_contradict", where, message)
    return {}


def _are_repeats(labels: Iterable[str], dates: Sequence[datetime]) -> bool:
    """Whether sessions of one day say themselves that they are repeats: by their times, or by their names."""
    if len({dated.time() for dated in dates}) > 1:
        return True
    return any(_REPEAT.search(label) for label in labels)


def _say_against_labels(days: Mapping[str, float], where: str, account: Reconciliation) -> None:
    """Labels of months or days since the first visit that the days do not follow; the days are taken."""
    for pattern, unit_days, slack_days in ((_MONTH_LABEL, 365.25 / 12, None), (_DAY_LABEL, 1.0, 1.0)):
        found = {key: int(match[1]) * unit_days for key in days if (match := pattern.fullmatch(key))}
        ordered = sorted(found, key=lambda key: found[key])
        for earlier, later in pairwise(ordered):
            gap, labelled = days[later] - days[earlier], found[later] - found[earlier]
            if gap < 0 or (slack_days is not None and abs(gap - labelled) > slack_days) or (gap == 0 < labelled):
                message = (
                    f"{where}: {later} lies {gap:g} days after {earlier}, its label says {labelled:.0f}; the days of "
                    "the table are taken, correct them or the labels"
                )
                account.add("days_against_labels", where, message)
