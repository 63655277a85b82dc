"""The tokens of what the reader types, each on a colour of its own, merge by merge."""

from collections.abc import Callable, Sequence
from html import escape

import ipywidgets as widgets
from IPython.display import display

from companion.lab.pictures import INK

Token = tuple[bytes, int]
Step = tuple[str, Sequence[Token]]  # what was done, and the tokens after it

TINTS = ("#cfe3f5", "#fbdcc4", "#cdebdd", "#ecd3e6")
SIGNS = str.maketrans({" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"})
LONGEST = 300  # characters that are drawn while one types


def tokens(steps: Callable[[str], Sequence[Step]], *, text: str) -> None:
    """A box to type in and a slider over the steps of its text: `steps(text)`, one or more.

    What `steps` refuses with ValueError is shown in place of the tokens. A reader without a kernel
    sees the first, the middle and the last step of `text`.
    """
    box = widgets.Text(value=text, description="text", layout={"width": "40em"})
    slider = widgets.IntSlider(description="merges", layout={"width": "40em"})
    picture = widgets.HTML()

    def redraw(_: object = None) -> None:
        try:
            found = steps(box.value[:LONGEST])
        except ValueError as error:
            picture.value = f"<p>{escape(str(error))}</p>"
            return
        picture.value = drawn(*found[min(slider.value, len(found) - 1)])

    def retyped(_: object = None) -> None:
        try:
            last = len(steps(box.value[:LONGEST])) - 1
        except ValueError:
            last = 0
        slider.max = last
        slider.value = last  # what was typed is seen as it ends
        redraw()

    box.observe(retyped, names="value")
    slider.observe(redraw, names="value")
    retyped()
    found = steps(text)
    shown = sorted({0, len(found) // 2, len(found) - 1})
    display(
        widgets.VBox([box, slider, picture])._repr_mimebundle_()
        | {
            "text/html": "".join(drawn(*found[at]) for at in shown),
            "text/plain": "\n".join(plain(*found[at]) for at in shown),
        },
        raw=True,
    )


def drawn(what: str, parts: Sequence[Token]) -> str:
    """A step as HTML: its caption, then each token on its tint with its id under it."""
    block = "display:inline-block;padding:1px 3px;margin:1px;border-radius:3px;text-align:center"
    spans = [
        f'<span style="{block};background:{TINTS[n % len(TINTS)]};color:{INK}">'
        f'<code style="background:none;color:{INK}">{escape(seen(token))}</code><br>'
        f'<small style="color:{INK}">{id}</small></span>'
        for n, (token, id) in enumerate(parts)
    ]
    return f"<p>{escape(what)}, {_size(parts)}</p><p>{''.join(spans)}</p>"


def plain(what: str, parts: Sequence[Token]) -> str:
    """A step as text: tokens between bars."""
    return f"{what}, {_size(parts)}\n  {'|'.join(seen(token) for token, _ in parts)}"


def seen(token: bytes) -> str:
    """A token as characters, spaces and newlines with a sign, halves of characters as bytes."""
    return token.decode("utf-8", errors="backslashreplace").translate(SIGNS)


def _size(parts: Sequence[Token]) -> str:
    bytes_in = sum(len(token) for token, _ in parts)
    one = "" if len(parts) == 1 else "s"
    return f"{len(parts)} token{one} for {bytes_in} bytes"
