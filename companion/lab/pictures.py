"""How a picture of the course looks, and how it reaches the page with its alternative text."""

import base64
import io
from html import escape
from textwrap import fill

from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

CARD, INK, MUTED = "#ffffff", "#1b1f24", "#5f6670"
COLORS = ("#0072b2", "#c04a00", "#00785a", "#9c3f86", "#806000", "#444b55")

STYLE = {
    "axes.edgecolor": MUTED,
    "axes.facecolor": CARD,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.facecolor": CARD,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "grid.color": "#e6e8eb",
    "lines.linewidth": 2,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
WIDTH, HEIGHT, DPI = 6.4, 3.4, 200


def show_figure(figure: Figure, alt: str) -> None:
    """Emit a figure as a picture with its alternative text."""
    display({"text/html": img(figure, alt), "text/plain": alt}, raw=True)


def wrapped(title: str) -> str:
    """The title in lines that the width of a picture holds."""
    return fill(title, 58)


def img(figure: Figure, alt: str) -> str:
    """The figure as an HTML <img> that holds its picture. ValueError without a sentence of alt."""
    if len(alt.split()) < 4 or not alt.rstrip().endswith("."):
        raise ValueError(f"alt={alt!r} should be a sentence that says what the picture shows")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI)
    small = io.BytesIO()
    Image.open(png).convert("RGB").quantize(96).save(small, "png", optimize=True)
    data = base64.b64encode(small.getvalue()).decode()
    pixels = round(figure.get_figwidth() * 100)
    return f'<img width="{pixels}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'
