"""What an examination found, to be read by a person or by a program."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = ["Finding", "Report", "finding", "listed"]

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from html import escape
from textwrap import fill
from typing import Any

from companion.doctor_names import GRAVITY, KNOWN


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: what was measured and expected, and where to look.

    `name` is one of `companion.doctor_names.KNOWN`, and stays the same over versions.
    """

    name: str
    verdict: str
    measured: str
    expected: str
    look: str

    def __str__(self) -> str:
        rows = [("measured", self.measured), ("expected", self.expected)]
        rows += [("look", self.look)]
        lines = [
            fill(said, 96, initial_indent=f"   {kind:<9} ", subsequent_indent=" " * 13)
            for kind, said in rows
        ]
        return "\n".join([f"{self.name}: {self.verdict}", *lines])


def finding(name: str, measured: str, expected: str, look: str = "") -> Finding:
    """A finding of a known name; `look` is put before where one usually looks."""
    verdict, usual = KNOWN[name]
    return Finding(name, verdict, measured, expected, "; ".join(filter(None, [look, usual])))


def listed(names: Sequence[str], most: int = 4) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass(frozen=True, repr=False)
class Report:
    """All findings, the gravest first, causes before what they cause.

    `checked` names what was looked for; `notes` says what could not be, and why.
    """

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    notes: tuple[str, ...] = ()
    budget: str = "quick"
    seconds: float = 0.0

    def __post_init__(self) -> None:
        graver = sorted(self.findings, key=lambda one: GRAVITY[one.name])
        object.__setattr__(self, "findings", tuple(graver))

    @property
    def healthy(self) -> bool:
        """Whether nothing was found; see `notes` for what could not be looked for."""
        return not self.findings

    @property
    def names(self) -> tuple[str, ...]:
        """The findings' names, the gravest first."""
        return tuple(one.name for one in self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __str__(self) -> str:
        lines = [self._head()]
        lines += [f"{n}. {one}" for n, one in enumerate(self.findings, 1)]
        lines += [fill(f"note: {note}", 96, subsequent_indent="  ") for note in self.notes]
        return "\n".join(lines)

    __repr__ = __str__

    def _head(self) -> str:
        found = len(self.findings)
        what = "nothing found" if not found else "1 finding" if found == 1 else f"{found} findings"
        checks = f"{len(self.checked)} checks"
        if self.notes:
            checks += f", {len(self.notes)} of which could not be made"
        return f"{what} in {checks} ({self.budget}, {self.seconds:.1f} s)"

    def _repr_html_(self) -> str:
        head = "".join(
            f"<th>{x}</th>" for x in ("finding", "measured", "expected", "where to look")
        )
        rows = "".join(
            "<tr style='text-align:left;vertical-align:top'>"
            f"<td><b>{escape(one.name)}</b><br>{escape(one.verdict)}</td>"
            + "".join(f"<td>{escape(x)}</td>" for x in (one.measured, one.expected, one.look))
            + "</tr>"
            for one in self.findings
        )
        table = f"<table><tr>{head}</tr>{rows}</table>" if rows else ""
        notes = "".join(f"<p>note: {escape(note)}</p>" for note in self.notes)
        return f"<p>{escape(self._head())}</p>{table}{notes}"

    def to_dict(self) -> dict[str, Any]:
        """Strings, numbers and lists only."""
        plain = asdict(self)
        lists = {name: list(plain[name]) for name in ("findings", "checked", "notes")}
        return plain | lists

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Report":
        """The report that `to_dict` was asked of. ValueError for anything else."""
        names = {field.name for field in fields(cls)}
        if set(plain) != names:
            raise ValueError(f"a report has {sorted(names)}, and this {sorted(plain)}")
        findings = tuple(Finding(**one) for one in plain["findings"])
        lists = {"checked": tuple(plain["checked"]), "notes": tuple(plain["notes"])}
        return cls(**{**plain, **lists, "findings": findings})

    @classmethod
    def from_json(cls, text: str) -> "Report":
        return cls.from_dict(json.loads(text))
