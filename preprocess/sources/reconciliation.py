"""What became of everything a source holds: each file is a scan, was read, is passed over with a reason, or is another.

Found and passed over together are everything there. Beside files the account has table rows that match no scan, scans
that match no row, rows, columns and cells that were not used. Pure; every lister fills one.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from preprocess.sources.names import readable

Part = Literal[
    "passed_over", "rows_without_scan", "scans_without_row", "rows_not_used", "columns_ignored", "cells", "remarks"
]
PARTS: Mapping[Part, tuple[str, str]] = MappingProxyType(
    {
        "passed_over": ("file passed over", "files passed over"),
        "rows_without_scan": ("table row without a scan", "table rows without a scan"),
        "scans_without_row": ("scan or subject without a table row", "scans or subjects without a table row"),
        "rows_not_used": ("table row not used", "table rows not used"),
        "columns_ignored": ("column ignored", "columns ignored"),
        "cells": ("table cell left empty", "table cells left empty"),
        "remarks": ("other remark", "other remarks"),
    }
)
"""The parts of an account, in the order in which they are printed, with what one and several entries are called."""

CODES: Mapping[str, tuple[Part, str]] = MappingProxyType(
    {
        "annex_missing": ("passed_over", "not fetched by git-annex"),
        "code_folder": ("passed_over", "in code"),
        "derivatives": ("passed_over", "in derivatives"),
        "derived": ("passed_over", "masks, label maps or processed images"),
        "folder_named_as_scan": ("passed_over", "folders named like scans"),
        "folder_unreadable": ("passed_over", "folders that cannot be read"),
        "forgotten": ("passed_over", "of people who were deleted from the store on request"),
        "hidden": ("passed_over", "hidden"),
        "id_grammar": ("passed_over", "whose path names no person"),
        "link_dangling": ("passed_over", "links to nothing"),
        "link_repeated": ("passed_over", "links to a folder listed already"),
        "modality_unclear": ("passed_over", "of unclear modality"),
        "not_in_table": ("passed_over", "not named by the table"),
        "not_mr": ("passed_over", "of CT, PET and other sessions without MR"),
        "other_kind": ("passed_over", "of another kind than asked for"),
        "other_modality": ("passed_over", "of other modalities"),
        "outside_subjects": ("passed_over", "outside sub-* folders"),
        "qc_failed": ("passed_over", "that failed the study's quality control"),
        "raw_and_processed": ("passed_over", "other forms of a scan that is kept"),
        "releases_mixed": ("passed_over", "tables of an older release"),
        "sourcedata": ("passed_over", "in sourcedata"),
        "special_file": ("passed_over", "special files"),
        "suffix_case": ("passed_over", "with the suffix in another spelling"),
        "table_not_read": ("passed_over", "tables where none is read"),
        "table_unreadable": ("passed_over", "tables that cannot be read"),
        "twin": ("passed_over", "two for one row"),
        "two_sessions": ("passed_over", "two sessions in one path"),
        "two_subjects": ("passed_over", "two subjects in one path"),
        "unread_format": ("passed_over", "in formats that are not read"),
        "burned_in": ("passed_over", "in series with text in their pictures"),
        "bad_scale": ("passed_over", "in series with a slope that is no number"),
        "contrast_given": ("passed_over", "in series after a contrast agent"),
        "derived_series": ("passed_over", "in derived series"),
        "dicom_index": ("passed_over", "DICOM indexes"),
        "dicom_object": ("passed_over", "DICOM objects without a picture"),
        "dicom_unreadable": ("passed_over", "DICOM files that cannot be read"),
        "geometry_bad": ("passed_over", "in series without a sound geometry"),
        "localizer": ("passed_over", "in localizers"),
        "mosaic": ("passed_over", "in mosaics"),
        "patient_unknown": ("passed_over", "in series without a PatientID"),
        "photometric": ("passed_over", "in series that are no grey values"),
        "scanner_other": ("passed_over", "in series of other scanners"),
        "series_second": ("passed_over", "in series where another one was preferred"),
        "series_unlike": ("passed_over", "in series that no rule takes"),
        "several_volumes": ("passed_over", "in series of several volumes"),
        "slice_gap": ("passed_over", "in series with gaps"),
        "too_few_slices": ("passed_over", "in series of too few slices"),
        "too_large": ("passed_over", "in series that are too large"),
        "uids_untrusted": ("passed_over", "in series with damaged UIDs"),
        "row_without_scan": ("rows_without_scan", ""),
        "no_visit_in_window": ("scans_without_row", "too far from each visit"),
        "scan_without_row": ("scans_without_row", ""),
        "bad_id": ("rows_not_used", "unusable ids"),
        "date_not_needed": ("rows_not_used", "dates of no visit with scores"),
        "duplicate_row": ("rows_not_used", "say the same twice"),
        "duplicate_visit": ("rows_not_used", "contradict another row"),
        "empty_key": ("rows_not_used", "without an id or a path"),
        "not_a_visit": ("rows_not_used", "of no visit"),
        "row_implausible": ("rows_not_used", "before the study's begin"),
        "row_modality": ("rows_not_used", "of other modalities"),
        "surplus_cells": ("rows_not_used", "with more cells than headings"),
        "visit_undated": ("rows_not_used", "without a date"),
        "visit_without_scores": ("rows_not_used", "without scores"),
        "column_ignored": ("columns_ignored", "without numbers"),
        "column_not_used": ("columns_ignored", "that the study's lister does not use"),
        "heading_repeated": ("columns_ignored", "headings given twice"),
        "heading_empty": ("columns_ignored", "without a heading"),
        "age_implausible": ("cells", "implausible ages"),
        "censored": ("cells", "bounds"),
        "day_implausible": ("cells", "implausible days"),
        "not_a_date": ("cells", "unreadable dates"),
        "not_a_day": ("cells", "unreadable days"),
        "not_a_number": ("cells", "no numbers"),
        "score_implausible": ("cells", "scores outside their scale"),
        "sentinel": ("cells", "codes for missing"),
        "age_hidden": ("cells", "ages above 89"),
        "age_unanchored": ("remarks", "ages without a date"),
        "day_like_code": ("remarks", "days that look like codes"),
        "days_against_labels": ("remarks", "days against session labels"),
        "days_contradict": ("remarks", "days that contradict each other"),
        "days_missing": ("remarks", "scans without a day"),
        "days_unjoined": ("remarks", "dates that no day joins"),
        "description_unreadable": ("remarks", "unreadable descriptions"),
        "diagnosis": ("remarks", "diagnoses"),
        "folder_day_disagrees": ("remarks", "session folders against file names"),
        "ids_read_as": ("remarks", "ids read in another spelling"),
        "image_not_in_table": ("remarks", "images that no row names"),
        "label_grammar": ("remarks", "labels against the grammar"),
        "name_misspelt": ("remarks", "misspelt names"),
        "kind_unset": ("remarks", "kinds that the recipe does not name"),
        "name_not_text": ("remarks", "names that are no UTF-8"),
        "not_a_participant": ("remarks", "folders that are no person"),
        "processing_mixed": ("remarks", "people with scans of several ways of processing"),
        "row_short": ("remarks", "rows with fewer cells than headings"),
        "session_without_scan": ("remarks", "sessions without a usable series"),
        "several_runs": ("remarks", "sessions with several scans"),
        "sidecar_missing": ("remarks", "scans without a sidecar"),
        "sidecar_unreadable": ("remarks", "unreadable sidecars"),
        "study_date_missing": ("remarks", "studies without a date"),
        "tables_missing": ("remarks", "studies without tables"),
        "unknown_diagnosis": ("remarks", "diagnoses in unknown words"),
        "visit_code_unknown": ("remarks", "visits under a phase's own code"),
        "visit_tie": ("remarks", "two visits equally near"),
    }
)
"""What each code belongs to, and what the summary calls its entries. docs/findings.md has meaning and remedy."""
_IN_FULL = frozenset(
    {
        *("annex_missing", "folder_unreadable", "link_dangling", "table_not_read", "table_unreadable"),
        *(
            "bad_scale",
            "burned_in",
            "contrast_given",
            "derived_series",
            "geometry_bad",
            "mosaic",
            "photometric",
            "series_second",
        ),
        *("series_unlike", "several_volumes", "slice_gap", "too_few_slices", "too_large", "uids_untrusted"),
    }
)
"""Files passed over whose reason is printed with each of them, and not only counted."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One entry of the account.

    Attributes:
        code: a key of `CODES`.
        name: the file, row or column it is about, never an absolute path.
        message: one line with what, the value and the remedy.
        count: how many rows or cells it stands for.
        leaves_out: whether a requested scan is lost by it.
    """

    code: str
    name: str
    message: str
    count: int = 1
    leaves_out: bool = False


@dataclass(slots=True)
class Reconciliation:
    """The account of one source.

    Attributes:
        remarks: all entries, in the order in which they were found.
        read: tables and side files whose content was used.
        others: files that neither look like scans nor are tables read here, such as README.
        num_scan_files: files of the source that are listed as scans.
    """

    remarks: list[Remark] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    others: list[str] = field(default_factory=list)
    num_scan_files: int = 0

    def add(self, code: str, name: str, message: str, *, count: int = 1, leaves_out: bool = False) -> None:
        """Enter a remark; `message` is the whole line. Bytes of names that are no UTF-8 are written out."""
        if code not in CODES:
            raise KeyError(code)
        self.remarks.append(Remark(code, readable(name), readable(" ".join(message.split())), count, leaves_out))

    def pass_over(self, code: str, name: str, why: str, *, count: int = 1, leaves_out: bool = False) -> None:
        """Enter a file that is not listed, or `count` files under one name, with the reason and the remedy."""
        self.add(code, name, f"{name}: {why}", count=count, leaves_out=leaves_out)

    def part(self, part: Part) -> list[Remark]:
        """All entries of a part."""
        return [remark for remark in self.remarks if CODES[remark.code][0] == part]

    @property
    def left_out(self) -> list[Remark]:
        """Entries by which a requested scan is lost."""
        return [remark for remark in self.remarks if remark.leaves_out]

    @property
    def num_lost(self) -> int:
        """How many requested scans are left out; a folder that cannot be read may hold any number, and counts as 0."""
        return sum(remark.code != "folder_unreadable" for remark in self.left_out)

    @property
    def files(self) -> dict[str, int]:
        """How many files are there, and what became of them; the last four add up to the first."""
        sorts = {
            "scans": self.num_scan_files,
            "read": len(self.read),
            "other": len(self.others),
            "passed_over": sum(one.count for one in self.part("passed_over")),
        }
        return {"there": sum(sorts.values()), **sorts}

    def counts(self) -> dict[Part, dict[str, int]]:
        """Entries by part and code, in the order of `PARTS` and most frequent first."""
        found: dict[Part, Counter[str]] = {part: Counter() for part in PARTS}
        for remark in self.remarks:
            found[CODES[remark.code][0]][remark.code] += remark.count
        return {part: dict(counter.most_common()) for part, counter in found.items() if counter}

    def summary(self) -> str:
        """One clause for each part that has entries, for example `12 files passed over (5 in derivatives, ...)`."""
        clauses = []
        for part, by_code in self.counts().items():
            total = sum(by_code.values())
            kinds = ", ".join(f"{count} {CODES[code][1]}" for code, count in by_code.items() if CODES[code][1])
            clauses.append(f"{total} {PARTS[part][total != 1]}{f' ({kinds})' if kinds else ''}")
        return "; ".join(clauses)

    def lines(self, *, examples: int = 5) -> Iterator[str]:
        """What a person reads: for each code a few of its messages, then how many more there are.

        Files that are passed over without loss take one line a code, with names only.
        """
        for part, by_code in self.counts().items():
            for code in by_code:
                entries = [one for one in self.remarks if one.code == code and not one.leaves_out]
                if not entries:
                    continue
                if code == "row_modality" or (part == "passed_over" and code not in _IN_FULL):
                    names = ", ".join(entry.name for entry in entries[:examples])
                    more = f" and {len(entries) - examples} more" if len(entries) > examples else ""
                    yield f"passed over, {CODES[code][1]}: {len(entries)}: {names}{more}"
                    continue
                yield from (entry.message for entry in entries[:examples])
                if len(entries) > examples:
                    yield f"and {len(entries) - examples} more like it ({code}); --json lists all"

    def to_dict(self, *, limit: int | None = None) -> dict[str, Any]:
        """The account as JSON values.

        Args:
            limit: most entries listed for a code; counts are of all.
        """
        listed: dict[str, dict[str, Any]] = {}
        for part, by_code in self.counts().items():
            listed[part] = {
                code: {
                    "count": count,
                    "entries": [
                        {"name": one.name, "message": one.message, "leaves_out": one.leaves_out}
                        for one in [remark for remark in self.remarks if remark.code == code][:limit]
                    ],
                }
                for code, count in by_code.items()
            }
        return {"files": self.files, **listed}
