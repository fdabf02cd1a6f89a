"""Faults by rule: which request gets which fault, as a function of the seed and never of the order of arrival.

Whether a rule with a probability fires is drawn from (seed, rule, kind of request, object, how often this object was
asked for), so the same run gives the same faults whatever is in flight beside it. Only `count` depends on arrival.
"""

import dataclasses
import fnmatch
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

FaultKind = Literal["status", "reset", "truncate", "flip", "stall", "delay"]
RequestKind = Literal["media", "metadata", "list", "upload", "delete", "copy", "bucket", "other"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule.

    Attributes:
        kind: what happens to the answer:
            `status`: the request is not carried out, the answer is an error of `status`;
            `reset`: carried out, half of the body is sent, then the connection is reset (RST);
            `truncate`: carried out, half of the body is sent under the right Content-Length, then the connection is
            closed (FIN);
            `flip`: one bit of the body is inverted, headers and digests are those of the true one;
            `stall`: half of the body is sent, nothing for `seconds`, then the rest;
            `delay`: the first byte comes `seconds` later than the latency says.
            A body of under two bytes is cut within the head instead; an empty one has no bit to flip.
        status: HTTP status of the kind `status`.
        seconds: length of `stall` and `delay`.
        probability: of each request that the rule is for.
        count: most times in all; None has no limit.
        count_per_object: most times for any one object; None has no limit.
        objects: shell pattern of object names, as in `fnmatch` (`*` crosses slashes).
        on: kinds of request the rule is for; empty means every one.

    Raises:
        ValueError: an unknown kind, or a value outside its range.
    """

    kind: FaultKind
    status: int = 503
    seconds: float = 0.0
    probability: float = 1.0
    count: int | None = None
    count_per_object: int | None = None
    objects: str = "*"
    on: tuple[RequestKind, ...] = ("media",)

    def __post_init__(self) -> None:
        unknown = set(self.on) - set(get_args(RequestKind))
        if self.kind not in get_args(FaultKind) or unknown:
            raise ValueError(f"fault {self.kind!r} on {self.on}: use {get_args(FaultKind)} on {get_args(RequestKind)}")
        if not 0.0 <= self.probability <= 1.0 or self.seconds < 0.0 or not 400 <= self.status <= 599:
            raise ValueError(f"{self}: probability is 0 to 1, seconds at least 0, status 400 to 599")
        if self.kind in {"stall", "delay"} and self.seconds == 0.0:
            raise ValueError(f"fault {self.kind!r} lasts 0 s; give seconds")

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Fault":
        """The rule that `to_json` described."""
        return cls(**{**content, "on": tuple(content["on"])})

    def to_json(self) -> dict[str, Any]:
        """The rule as JSON."""
        return dataclasses.asdict(self)


class FaultRules:
    """The rules in force; the first that fires is the fault.

    Args:
        rules: in order of precedence.
        seed: of every draw.
    """

    def __init__(self, rules: Sequence[Fault] = (), seed: int = 0) -> None:
        self._rules = list(rules)
        self._seed = seed
        self._num_asked: Counter[tuple[str, str]] = Counter()
        self._num_fired: Counter[int] = Counter()
        self._num_fired_on: Counter[tuple[int, str]] = Counter()

    def choose(self, kind: str, name: str) -> Fault | None:
        """The fault of one request for the object `name` (bucket/object), counted as fired; None for none."""
        if not self._rules:
            return None
        self._num_asked[kind, name] += 1
        object_name = name.partition("/")[2]
        for number, rule in enumerate(self._rules):
            if (
                (not rule.on or kind in rule.on)
                and (rule.count is None or self._num_fired[number] < rule.count)
                and (rule.count_per_object is None or self._num_fired_on[number, name] < rule.count_per_object)
                and fnmatch.fnmatchcase(object_name, rule.objects)
                and self._draw(number, kind, name) < rule.probability
            ):
                self._num_fired[number] += 1
                self._num_fired_on[number, name] += 1
                return rule
        return None

    def bit(self, name: str, num_bits: int) -> int:
        """Which bit of the body `flip` inverts this time."""
        return int(self._draw(-1, "media", name) * num_bits)

    def _draw(self, number: int, kind: str, name: str) -> float:
        """Uniform in [0, 1)."""
        text = f"{self._seed} {number} {kind} {self._num_asked[kind, name]} {name}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2.0**48
