"""The check under every exercise: it runs an answer and says what it saw. It never raises."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from textwrap import fill
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from companion.lab.comparing import first_difference, kind_of
from companion.lab.running import Run

NOT_WRITTEN = "not written yet"
RETURNED_NOTHING = "it returned nothing: does every path end with `return`?"
FIRST_USE = 60.0  # seconds for the reference, which goes first and makes torch load what it needs
CANNOT_READ = "the check cannot read what it returned"


@dataclass(frozen=True)
class Mistake:
    """A wrong answer with a name: `answer` makes it, `hint` leads away from it without the code.

    It is known by its values, or by its error; where these are never the same twice,
    `shows(got, want, *probe)` tells.
    """

    name: str
    hint: str
    answer: Callable[..., Any]
    shows: Callable[..., bool] | None = None


@dataclass(frozen=True)
class Exercise:
    """What is right, the inputs that tell, and the wrong answers that have a name.

    An answer is called on copies of each probe and compared with `reference`: structure, shape,
    dtype, values, and, where the reference carries a gradient, the gradient. NumPy arrays, lists
    and numbers are read as tensors. A mistake that raises is known by its error, and by its values
    until then. `forbidden` maps what must not be done to an argument ("aten::embedding on argument
    2") to what is then said; `at_most` maps what may be done so many times on any input to that
    number, and to what is said of more. `axes` names those of what is returned, "(B, T)", and is
    said where the shape is wrong.
    `show(*probe)` writes an input in a line, where it is too long to be shown as it is.
    Where an answer makes a model, `look(answer, *probe)` makes it and returns what is compared.
    """

    reference: Callable[..., Any]
    probes: Sequence[tuple[Any, ...]]
    mistakes: Sequence[Mistake] = ()
    forbidden: Mapping[str, str] = field(default_factory=dict)
    at_most: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    seconds: float = 5.0
    tolerance: float = 1e-4
    look: Callable[..., Any] | None = None
    axes: str = ""
    show: Callable[..., str] | None = None

    def __call__(self, answer: Any) -> None:
        """Print what the check found; `answer` should be a function, and may be anything."""
        lines = self.verdict(answer).splitlines()
        print(
            "\n".join(
                fill(line, 88, subsequent_indent=_indent(line), break_on_hyphens=False)
                for line in lines
            )
        )

    def verdict(self, answer: Any) -> str:
        """One of: right; not written; what was raised; a named mistake; the first difference."""
        try:
            with torch.random.fork_rng(devices=[]):
                return self._verdict(answer)
        except KeyboardInterrupt:
            return "stopped"
        except Exception as error:  # whatever an answer returned, the check must not fall over it
            return f"{CANNOT_READ} ({type(error).__name__}: {_first_line(error)})"

    def _verdict(self, answer: Any) -> str:
        wants = [self._ours(self.reference, probe, FIRST_USE) for probe in self.probes]
        if self.look and isinstance(answer, nn.Module):
            return "give the class itself, as in check.NAME(MyModel), not a model that it made"
        if not callable(answer):
            return f"give the function itself, as in check.NAME(my_function), not {kind_of(answer)}"
        runs = []
        for probe in self.probes:
            run = self._run(answer, probe, self.seconds)
            if run.error or run.timed_out:
                return (self._printed(runs or [run]) + self._trouble(runs, run, answer)).strip()
            if run.value is None or run.value is ...:
                written = _has_body(answer) or runs
                return self._printed([run]) + (RETURNED_NOTHING if written else NOT_WRITTEN)
            runs.append(run)
        return self._printed(runs) + self._compared(runs, wants)

    def _run(self, answer: Callable[..., Any], probe: tuple[Any, ...], seconds: float) -> Run:
        return Run.of(partial(self.look, answer) if self.look else answer, probe, seconds)

    def _ours(self, answer: Callable[..., Any], probe: tuple[Any, ...], seconds: float) -> Run:
        """A run of the reference or of a mistake."""
        return self._run(answer, probe, seconds)

    def _compared(self, runs: list[Run], wants: list[Run]) -> str:
        differences = [self._difference(run.value, want.value) for run, want in zip(runs, wants)]
        if not any(differences):
            return (
                _side_effect(runs)
                or self._way_round(runs)
                or _gradient_trouble(runs, wants)
                or self._right(runs)
            )
        for mistake in self.mistakes:
            if self._is(mistake, runs, wants):
                return f"{mistake.name}: {mistake.hint}"
        at, difference = next((n, d) for n, d in enumerate(differences) if d)
        if self.axes:
            difference = difference.replace("expected shape", f"expected {self.axes}, here", 1)
        right = differences.count(None)
        some = f" ({right} of {len(runs)} inputs came out right)" if right else ""
        return f"not yet: on input {at + 1}{self._shown(runs[at].probe)}, {difference}{some}"

    def _is(self, mistake: Mistake, runs: list[Run], wants: list[Run]) -> bool:
        for run, want in zip(runs, wants):
            if mistake.shows:
                told = Run.of(mistake.shows, (run.value, want.value, *run.probe), self.seconds)
                if told.value is not True:
                    return False
                continue
            wrong = self._ours(mistake.answer, run.probe, self.seconds)
            if wrong.error or wrong.timed_out or self._difference(run.value, wrong.value):
                return False
        return True

    def _difference(self, got: Any, want: Any) -> str | None:
        return first_difference(got, want, self.tolerance)

    def _trouble(self, before: list[Run], run: Run, answer: Any) -> str:
        if run.timed_out:
            return f"still running after {self.seconds:g} s: is there a loop that never ends?"
        if isinstance(run.error, NotImplementedError):
            return NOT_WRITTEN
        text = f"it raised {type(run.error).__name__}: {_first_line(run.error)}"
        line = _line_of(run.error, answer)
        known = [f"{m.name}: {m.hint}" for m in self.mistakes if self._raises(m, before, run)]
        if len(known) == len(self.mistakes) > 1:  # then it tells nothing about this answer
            known = []
        at = [f"    at: {line}"] if line else []
        on = [f"    on input {len(before) + 1}{shown}"] if (shown := self._shown(run.probe)) else []
        return "\n".join([text, *at, *on, *known[:1]])

    def _raises(self, mistake: Mistake, before: list[Run], run: Run) -> bool:
        """Whether it makes the same error here, and gave the same values on the inputs before."""
        wrong = self._ours(mistake.answer, run.probe, self.seconds)
        if repr(wrong.error) != repr(run.error):
            return False
        earlier = [self._ours(mistake.answer, one.probe, self.seconds) for one in before]
        return not any(
            wrong.error or self._difference(one.value, wrong.value)
            for one, wrong in zip(before, earlier)
        )

    def _way_round(self, runs: list[Run]) -> str | None:
        done = runs[0].operations
        too_often = (
            said
            for op, (most, said) in self.at_most.items()
            if any(run.operations[op] > most for run in runs)
        )
        return next((self.forbidden[op] for op in done if op in self.forbidden), None) or next(
            too_often, None
        )

    def _shown(self, probe: tuple[Any, ...]) -> str:
        return f" ({self.show(*probe)})" if self.show else _shown(probe)

    def _printed(self, runs: list[Run]) -> str:
        """What the answer printed on the first input: the learner put it there to see it."""
        text = runs[0].printed.rstrip()
        if not text:
            return ""
        lines = text.splitlines()
        more = [f"... and {len(lines) - 10} lines more"] if len(lines) > 10 else []
        shown = "\n".join(f"    {line[:100]}" for line in lines[:10] + more)
        return f"on the first input it printed\n{shown}\n"

    def _right(self, runs: list[Run]) -> str:
        foreign = [run.value for run in runs if isinstance(run.value, np.ndarray | np.generic)]
        also = f", as a NumPy {type(foreign[0]).__name__}" if foreign else ""
        return f"right, on {len(runs)} different inputs{also}"


def _side_effect(runs: list[Run]) -> str | None:
    changed = next((i for run in runs if (i := run.changed()) is not None), None)
    if changed is None:
        return None
    return (
        f"the values are right, but argument {changed + 1} was changed in place: "
        "the caller still needs it as it was. Which line writes into it?"
    )


def _gradient_trouble(runs: list[Run], wants: list[Run]) -> str | None:
    for run, want in zip(runs, wants):
        if not (isinstance(want.value, Tensor) and want.value.requires_grad):
            continue
        if not (isinstance(run.value, Tensor) and run.value.requires_grad):
            return (
                "the values are right, but no gradient can flow back from what it returned, so "
                "nothing could be trained with it. Which step leaves PyTorch (.item(), .detach(), "
                "float(), NumPy, no_grad)?"
            )
        got, expected = (_gradients(one) for one in (run, want))
        if all(gradient is None or (gradient.numel() and not gradient.any()) for gradient in got):
            return (
                "the values are right, but no gradient reaches the argument: it was copied on the "
                "way (nn.Parameter, .detach(), .data), and the copy gets the gradient"
            )
        pairs = [(g, e) for g, e in zip(got, expected) if g is not None or e is not None]
        got = [torch.zeros_like(e) if g is None else g for g, e in pairs]
        expected = [torch.zeros_like(g) if e is None else e for g, e in pairs]
        difference = first_difference(got, expected, 1e-4)
        if difference:
            return f"the values are right, but the gradient is not: {difference}"
    return None


def _gradients(run: Run) -> list[Tensor | None]:
    """Of the sum, each number weighed differently: rows that add up to 1 have no other slope.

    None for an argument from which the result does not come.
    """
    leaves = [x for x in run.args if isinstance(x, Tensor) and x.requires_grad]
    places = torch.linspace(0.5, 1, run.value.numel()).view(run.value.shape)
    weighed = (run.value * places).sum()
    return list(torch.autograd.grad(weighed, leaves, allow_unused=True, retain_graph=True))


def _indent(line: str) -> str:
    return " " * (len(line) - len(line.lstrip()))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def _shown(probe: tuple[Any, ...]) -> str:
    """The arguments as one writes them, where they are plain and short."""
    plain = all(isinstance(arg, int | float | str | bytes | list | tuple) for arg in probe)
    text = ", ".join(map(repr, probe)) if plain else ""
    return f" ({text})" if 0 < len(text) <= 40 and "tensor(" not in text else ""


def _line_of(error: BaseException, answer: Any) -> str | None:
    """The line of the answer's own code that the error came out of."""
    makes = answer.__init__ if isinstance(answer, type) else answer
    code = getattr(makes, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.line for f in reversed(frames) if code and f.filename == code.co_filename), None)


def _has_body(answer: Any) -> bool:
    """Whether a function does more than its docstring, `pass` or `...`."""
    code = getattr(answer, "__code__", None)
    return bool(code and (code.co_names or len(code.co_varnames) > code.co_argcount))
