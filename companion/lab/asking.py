"""Predict first, then look: the reader's guesses, and what was measured beside them."""

from html import escape
from textwrap import fill, indent

import ipywidgets as widgets
from IPython.display import display

_asked: dict[str, str] = {}
_guesses: dict[str, widgets.ValueWidget] = {}


def predict(**questions: str | tuple[str, ...]) -> None:
    """Ask the reader to commit to an answer before the experiment; `reveal` brings it back.

    A question is a sentence, or a tuple of a sentence and the options to choose from. Without a
    kernel the questions stand as text. Asked again, a question keeps the guess it had.
    """
    rows = []
    for name, question in questions.items():
        sentence, *options = (question,) if isinstance(question, str) else question
        said = guess_of(name)
        if options:
            value = said if said in options else None
            box = widgets.RadioButtons(options=options, value=value)
        else:
            box = widgets.Text(value=said, placeholder="your guess", layout={"width": "9em"})
        _asked[name], _guesses[name] = sentence, box
        text = widgets.HTMLMath(f"<span>{escape(sentence)}</span>")
        rows.append(widgets.VBox([text, box], layout={"margin": "0 0 10px 0"}))
    # The plain forms are for a reader without a kernel: a notebook shows the richest that it can.
    display(
        {
            "application/vnd.jupyter.widget-view+json": _view(widgets.VBox(rows)),
            "text/html": _as_list(questions),
            "text/plain": "\n".join(f"- {_asked[name]}" for name in questions),
        },
        raw=True,
    )


def reveal(**measured: object) -> None:
    """Print each measured value, already formatted, under its question and beside the guess."""
    for name, value in measured.items():
        question = _asked.get(name, f"{name} (run the cell that asks for it, to answer)")
        print(fill(question, 88))
        print(indent(f"measured {value}   you said {guess_of(name) or 'nothing'}", "    "))


def guess_of(name: str) -> str:
    """What the reader has answered so far, or an empty string."""
    box = _guesses.get(name)
    return str(box.value or "").strip() if box else ""


def _view(widget: widgets.Widget) -> dict:
    return widget._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]


def _as_list(questions: dict[str, str | tuple[str, ...]]) -> str:
    items = []
    for question in questions.values():
        sentence, *options = (question,) if isinstance(question, str) else question
        choices = "".join(f"<br>&#9675; {escape(option)}" for option in options)
        items.append(f"<li>{escape(sentence)}{choices}</li>")
    return f"<p><b>Write down your guess:</b></p><ul>{''.join(items)}</ul>"
