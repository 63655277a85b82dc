"""What a lesson shows: questions, plots, sliders, tables and recorded runs."""

import base64
import importlib
import io
import itertools
import json
import mmap
import os
import re
import sys

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from companion import lab
from companion.lab import asking, blocks, mapping, pictures, plots, records, sliding

token_pictures = sys.modules["companion.lab.tokens"]  # `lab.tokens` is the function
ALT = "A line that rises from zero to one."
WIDGET = "application/vnd.jupyter.widget-view+json"


def shown(call):
    """The one display bundle that a call emits."""
    bundles = []
    with pytest.MonkeyPatch.context() as patch:
        for module in (asking, pictures, sliding, token_pictures):
            patch.setattr(module, "display", lambda data, raw: bundles.append(data))
        call()
    (bundle,) = bundles
    return bundle


@pytest.fixture(autouse=True)
def nobody_asked(monkeypatch):
    monkeypatch.setattr(asking, "_asked", {})
    monkeypatch.setattr(asking, "_guesses", {})


# --- questions ------------------------------------------------------------------------------


def test_questions_stand_as_text_for_a_reader_without_a_kernel():
    bundle = shown(lambda: lab.predict(a="How many <b>?", b=("Which?", "this one", "that one")))
    assert "How many &lt;b&gt;?" in bundle["text/html"]
    assert "this one" in bundle["text/html"]
    assert "Which?" in bundle["text/plain"]
    assert WIDGET in bundle


def test_a_guess_comes_back_beside_the_measurement(capsys):
    shown(lambda: lab.predict(loss="What is the loss?", shape=("Which?", "(2, 3)", "(3, 2)")))
    asking._guesses["loss"].value = " 4.2 "
    asking._guesses["shape"].value = "(3, 2)"
    lab.reveal(loss="4.17", shape="(2, 3)")
    assert capsys.readouterr().out.splitlines() == [
        "What is the loss?",
        "    measured 4.17   you said 4.2",
        "Which?",
        "    measured (2, 3)   you said (3, 2)",
    ]


def test_no_guess_is_said_to_be_none(capsys):
    shown(lambda: lab.predict(loss="What is the loss?"))
    lab.reveal(loss="4.17")
    assert "you said nothing" in capsys.readouterr().out


def test_a_question_asked_again_keeps_its_guess():
    for _ in range(2):
        shown(lambda: lab.predict(loss="What is the loss?", which=("Which?", "a", "b")))
        asking._guesses["which"].value = asking._guesses["which"].value or "b"
        asking._guesses["loss"].value = asking._guesses["loss"].value or "7"
    assert asking.guess_of("loss") == "7"
    assert asking.guess_of("which") == "b"


def test_revealing_what_nobody_asked_does_not_raise(capsys):
    lab.reveal(loss="4.17")
    assert "loss (run the cell that asks for it, to answer)" in capsys.readouterr().out


# --- plots ----------------------------------------------------------------------------------


def picture(bundle):
    data = re.search(r"base64,([^\"]+)", bundle["text/html"])[1]
    return Image.open(io.BytesIO(base64.b64decode(data)))


def a_plot(**options):
    curve = ([0, 1, 2], [0.0, 0.5, 1.0])
    given = {"lines": {"rises": curve}, "title": "t", "x": "x", "y": "y", "alt": ALT}
    return shown(lambda: lab.plot(**(given | options)))


def a_mask_chart():
    seen = torch.tensor([[True, False]])
    rows = {"(B, T)": (seen, [lab.Attended("right", torch.eye(2)[None])])}
    lab.mask_chart(rows, ["a form"], seen, title="t", alt=ALT)


def a_multiple():
    curve = [([0, 1], [1, 2])]
    names = {"named": "the right one", "title": "t", "x": "x", "y": "y", "alt": ALT}
    lab.multiples({"a": curve, "b": curve}, curve, ylim=(0, 3), **names)


@pytest.mark.parametrize(
    "bundle",
    [
        a_plot,
        lambda: shown(lambda: lab.bars({"a": 1.0, "b": 2.0}, title="t", x="x", alt=ALT)),
        lambda: shown(lambda: lab.grid([[1.0, -2.0]], title="t", x="x", y="y", alt=ALT)),
        lambda: shown(
            lambda: lab.panels({"m": {"a": ([0, 1], [0, 1])}}, title="t", x="x", alt=ALT)
        ),
        lambda: shown(lambda: lab.maps({"a": np.eye(3)}, title="t", x="x", y="y", alt=ALT)),
        lambda: shown(
            lambda: lab.memory({"a": torch.arange(6).view(2, 3)}, group=3, title="t", alt=ALT)
        ),
        lambda: shown(a_mask_chart),
        lambda: shown(a_multiple),
    ],
    ids=["plot", "bars", "grid", "panels", "maps", "memory", "mask chart", "multiples"],
)
def test_every_picture_has_its_alt_text_and_an_opaque_light_card(bundle):
    data = bundle()
    assert f'alt="{ALT}"' in data["text/html"]
    assert data["text/plain"] == ALT
    image = picture(data)
    assert "A" not in image.mode
    corners = [image.convert("RGB").getpixel((x, y)) for x in (0, -1) for y in (0, -1)]
    assert all(min(corner) > 240 for corner in corners)


@pytest.mark.parametrize("alt", ["", "a plot", "no full stop at its end"])
def test_a_picture_without_a_sentence_of_alt_text_is_refused(alt):
    with pytest.raises(ValueError, match="should be a sentence"):
        a_plot(alt=alt)


def luminance(color):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


@pytest.mark.parametrize("color", [*pictures.COLORS, pictures.INK, pictures.MUTED])
def test_every_colour_can_be_read_as_text_on_the_card(color):
    assert (luminance(pictures.CARD) + 0.05) / (luminance(color) + 0.05) >= 4.5  # WCAG AA


# Machado, Oliveira and Fernandes 2009, severity 1.0
BLIND = {
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}


@pytest.mark.parametrize("kind", BLIND)
def test_the_first_four_colours_stay_apart_for_the_colour_blind(kind):
    seen = [np.array(BLIND[kind]) @ np.array(to_rgb(color)) for color in pictures.COLORS[:4]]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 0.15


def test_names_of_lines_that_end_together_do_not_overlap():
    figures = []
    keep = plots.show_figure

    def grab(figure, alt):
        figures.append(figure)
        keep(figure, alt)

    ends = {f"name {i}": ([0, 1], [0.0, 1 + i / 1000]) for i in range(5)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "show_figure", grab)
        a_plot(lines=ends)
    figure = figures[0]
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


def test_several_seeds_share_a_colour_and_one_name():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    seeds = [([0, 1], [0, s]) for s in (1, 2, 3)]
    plots.draw_curves(axes, lines={"ours": seeds, "theirs": ([0, 1], [0, 9])})
    colors = [line.get_color() for line in axes.lines]
    assert colors[0] == colors[1] == colors[2] != colors[3]
    assert [line.get_label() for line in axes.lines].count("ours") == 1


def test_an_axis_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="log='z'"):
        a_plot(log="z")


def drawn_panels(count, **options):
    figures = []
    curves = {"ours": ([1, 10], [1.0, 2.0]), "theirs": [([1, 10], [2.0, s]) for s in (1.0, 4.0)]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "show_figure", lambda figure, alt: figures.append(figure))
        measures = {f"measure {i}": curves for i in range(count)}
        lab.panels(measures, title="t", x="steps", alt=ALT, **options)
    figures[0].draw_without_rendering()
    return figures[0]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_each_measure_has_a_panel_and_the_names_are_written_once_in_their_colours(count):
    figure = drawn_panels(count)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in shown] == [f"measure {i}" for i in range(count)]
    assert all(len(axes.lines) == 3 for axes in shown)
    (names,) = figure.legends
    assert [text.get_text() for text in names.get_texts()] == ["ours", "theirs"]
    assert [text.get_color() for text in names.get_texts()] == list(pictures.COLORS[:2])
    boxes = [names.get_window_extent(), *(axes.get_tightbbox() for axes in shown)]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert [axes.get_xlabel() for axes in shown[-2:]] == ["steps"] * min(2, count)


def test_a_level_is_a_dashed_line_named_at_its_end_and_not_in_the_legend():
    figure = drawn_panels(2, levels={"measure 1": {"chance": 1.5}})
    plain, other = figure.axes
    (level,) = [line for line in other.lines if set(line.get_ydata()) == {1.5}]
    assert level.is_dashed()
    assert [text.get_text() for text in other.texts] == ["chance"]
    assert not plain.texts
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["ours", "theirs"]


def test_a_panel_is_logarithmic_where_it_was_asked_for():
    figure = drawn_panels(3, log="x", log_y=("measure 1",), xticks=[1, 10])
    assert [axes.get_yscale() for axes in figure.axes[:3]] == ["linear", "log", "linear"]
    assert {axes.get_xscale() for axes in figure.axes[:3]} == {"log"}


@pytest.mark.parametrize("same_y", [False, True])
def test_panels_have_one_y_scale_where_it_was_asked_for(same_y):
    figures = []
    low, high = {"a": ([0, 1], [0.0, 1.0])}, {"a": ([0, 1], [2.0, 5.0])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "show_figure", lambda figure, alt: figures.append(figure))
        lab.panels({"l": low, "h": high}, title="t", x="x", alt=ALT, same_y=same_y)
    left, right = (axes.get_ylim() for axes in figures[0].axes)
    assert (left == right) == same_y
    assert min(left[0], right[0]) <= 0
    assert max(left[1], right[1]) >= 5


def test_marked_cells_of_a_grid_get_a_frame_each():
    figures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "show_figure", lambda figure, alt: figures.append(figure))
        lab.grid(np.eye(3), title="t", x="x", y="y", alt=ALT, mark=[(0, 1), (2, 2)])
    frames = [
        (round(f.get_x() + 0.47), round(f.get_y() + 0.44)) for f in figures[0].axes[0].patches
    ]
    assert frames == [(1, 0), (2, 2)]  # (column, row)


def test_bars_in_groups_stand_under_the_name_of_their_group():
    figures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "show_figure", lambda figure, alt: figures.append(figure))
        lab.bars({"a": 1.0, "g": {"b": 2.0, "c": 3.0}}, title="t", x="x", alt=ALT)
    axes = figures[0].axes[0]
    assert [bar.get_width() for bar in axes.patches] == [1, 2, 3]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "g", "b", "c"]
    assert [tick.get_fontweight() == "bold" for tick in axes.get_yticklabels()] == [0, 1, 0, 0]
    middles = [bar.get_y() + bar.get_height() / 2 for bar in axes.patches]
    assert middles == pytest.approx([axes.get_yticks()[row] for row in (0, 2, 3)])


def test_single_runs_are_dots_on_the_bar_of_their_name():
    figures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "show_figure", lambda figure, alt: figures.append(figure))
        lab.bars({"a": 1.0, "b": 2.0}, dots={"b": [1.5, 2.5]}, title="t", x="x", alt=ALT)
    axes = figures[0].axes[0]
    dots = {(x, y) for line in axes.lines for x, y in line.get_xydata()}
    assert dots == {(1.5, -1.0), (2.5, -1.0)}
    assert [text.get_text() for text in axes.texts] == ["1.00", "2.00"]
    assert [text.xy for text in axes.texts] == [(1.0, 0.0), (2.5, -1.0)]


def test_what_is_spent_adds_up_and_new_memory_shows_as_faults():
    spent = lab.spent(lambda: sum(range(1_000_000)))
    assert 0 < spent["user"] + spent["kernel"] <= spent["clock"] + 0.05
    if sys.platform == "linux":
        pages = 64 * 2**20 // 4096
        with_memory = lab.spent(lambda: mmap.mmap(-1, 64 * 2**20).write(bytes(64 * 2**20)))
        assert with_memory["faults"] >= pages / 512  # where pages are huge


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_what_is_done_afresh_comes_back_and_changes_nothing_here():
    kept = []
    assert lab.afresh(lambda: kept.append(1) or [os.getpid(), kept]) != [os.getpid(), [1]]
    assert lab.afresh(lambda: kept.append(1) or kept) == [1]
    assert kept == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_what_fails_afresh_fails_here(capfd):
    with pytest.raises(RuntimeError, match="child"):
        lab.afresh(lambda: 1 / 0)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_two_grids_can_have_one_scale_of_colours():
    figures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "show_figure", lambda figure, alt: figures.append(figure))
        for values in ([[1.0, -2.0]], [[5.0, 0.0]]):
            lab.grid(values, title="t", x="x", y="y", alt=ALT, most=5)
    assert {figure.axes[0].images[0].get_clim() for figure in figures} == {(-8.0, 8.0)}


def test_bars_of_a_slider_name_their_groups_and_mark_one_bar():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    alt = lab.draw_bars(
        axes, {"a": [1, 2], "b": [3, 4]}, title="t", x="x", ylim=(0, 5), mark={1: "!"}
    )
    assert alt == "t: bars of a and b over x."
    assert [text.get_text() for text in axes.texts] == ["a", "b", "!"]
    colors = [bar.get_facecolor() for bar in axes.patches]
    assert colors[0] != colors[1]
    assert [bar.get_height() for bar in axes.patches] == [1, 2, 3, 4]


def cells_of(axes):
    """The colour of each cell of a map, as (T, T, 3)."""
    return np.asarray(axes.images[0].get_array())


def a_map(matrix):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    alt = lab.draw_map(axes, matrix, title="t", x="x", y="y")
    return cells_of(axes), alt


def test_a_map_leaves_nothing_white_and_tells_the_future_from_the_rest():
    colors, alt = a_map([[1.0, 0.5, 0.0], [1.0, 1.0, 1e-9], [0.0, 1.0, 1.0]])
    white = (colors == 1).all(-1)
    assert white.tolist() == [[False, False, True], [False, False, True], [True, False, False]]
    red, blue = colors[..., 0], colors[..., 2]
    assert red[0, 1] > blue[0, 1]  # later than its row
    assert (blue > red)[[0, 1, 1, 2, 2], [0, 0, 1, 1, 2]].all()
    assert alt == "t: a map of 3 by 3 positions; 1 reach from the future."


def test_a_stronger_cell_is_darker_whatever_the_sign_and_the_scale():
    colors, _ = a_map([[-1.0, 0.0], [0.01, 0.1]])
    darkness = 3 - colors.sum(-1)
    assert darkness[0, 0] > darkness[1, 1] > darkness[1, 0] > darkness[0, 1] == 0
    for factor in (1e-8, 1e8):
        again, _ = a_map(factor * np.array([[1.0, 0.0], [0.01, 0.1]]))
        np.testing.assert_allclose(again, colors)


def test_an_empty_map_is_drawn_white():
    colors, alt = a_map(np.zeros((2, 2)))
    assert (colors == 1).all()
    assert "0 reach" in alt


@pytest.mark.parametrize("matrix", [np.zeros(3), np.zeros((2, 3)), np.zeros((2, 2, 2))])
def test_a_map_is_square(matrix):
    with pytest.raises(ValueError, match="a map is a square matrix, and this has shape"):
        a_map(matrix)


def test_maps_give_each_name_a_panel():
    figures = []
    named = {name: np.eye(3) for name in "abcd"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapping, "show_figure", lambda figure, alt: figures.append(figure))
        lab.maps(named, title="t", x="x", y="y", alt=ALT, columns=3)
    panels = [axes for axes in figures[0].axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in panels] == list("abcd")
    assert all((cells_of(axes)[~np.eye(3, dtype=bool)] == 1).all() for axes in panels)


def test_maps_on_one_scale_have_the_same_shade_for_the_same_number():
    figures = []
    named = {"small": np.eye(2) / 100, "large": np.array([[1.0, 0], [1 / 100, 1]])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapping, "show_figure", lambda figure, alt: figures.append(figure))
        for one_scale in (True, False):
            lab.maps(named, title="t", x="x", y="y", alt=ALT, one_scale=one_scale)
    same = [
        np.allclose(cells_of(figure.axes[0])[0, 0], cells_of(figure.axes[1])[1, 0])
        for figure in figures
    ]
    assert same == [True, False]


def test_a_grid_draws_matrices_only():
    with pytest.raises(ValueError, match="two axes, and this has 3"):
        lab.grid(np.zeros((2, 2, 2)), title="t", x="x", y="y", alt=ALT)


# --- memory ---------------------------------------------------------------------------------


def drawn(tensor, **options):
    """The boxes (x, y, number) and the notes of a tensor's drawn memory."""
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    alt = lab.draw_memory(axes, tensor, group=4, title="t", **options)
    words = [text.get_text() for text in axes.texts]
    boxes = [
        (text.get_position(), int(text.get_text()))
        for text in axes.texts
        if text.get_text().isdigit()
    ]
    assert len(axes.patches) >= len(boxes)
    return boxes, words, alt


X = torch.arange(12).view(3, 4)
FORMS = {
    "as it lies": X,
    "transposed": X.T,
    "copied": X.T.contiguous(),
    "a slice": X[1:, 1:3],
    "expanded": X[0].expand(3, 4),
    "three axes": X.view(3, 2, 2).transpose(0, 1),
}


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("tensor", FORMS.values(), ids=FORMS.keys())
def test_memory_is_drawn_as_it_lies_and_the_tensor_as_it_reads(tensor, beside):
    boxes, words, alt = drawn(tensor, beside=beside)
    count = tensor.untyped_storage().nbytes() // tensor.element_size()
    row, cells = boxes[:count], boxes[count:]
    assert [at for at, _ in row] == [(place, 0) for place in range(count)]
    assert [n for _, n in row] == tensor.as_strided((count,), (1,), 0).tolist()
    assert [n for _, n in cells] == tensor.flatten().tolist()
    assert len({at for at, _ in boxes}) == len(boxes)
    step, to_next = tensor.stride(-1), tensor.stride(-2)
    assert f"in a row +{step}" in words
    assert any(w.startswith("next row") and w.endswith(f"+{to_next}") for w in words)
    assert f"strides {tensor.stride()}" in alt


def test_rows_of_a_drawn_tensor_stand_under_each_other():
    boxes, _, _ = drawn(X, beside=True)
    at = {n: place for place, n in boxes[12:]}
    assert at[1][0] - at[0][0] == 1
    assert at[1][1] == at[0][1]
    assert at[4][1] - at[0][1] == 1
    assert at[4][0] == at[0][0]


def test_blocks_are_named_and_other_shapes_refused():
    _, words, _ = drawn(FORMS["three axes"], block="head")
    assert {"head 0", "head 1"} <= set(words)
    for shape in ((12,), (1, 3, 2, 2)):
        with pytest.raises(ValueError, match=f"this has {len(shape)}"):
            drawn(X.reshape(shape))


def test_the_block_has_four_numbered_sites_each_with_its_note():
    figures = []
    notes = {"embeddings": "first", "weights": "second", "attention": "third", "mlp": "fourth"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "show_figure", lambda figure, alt: figures.append(figure))
        lab.block(notes, title="t", alt=ALT, heading="how many")
    texts = figures[0].axes[0].texts
    at = {text.get_text(): text.get_position() for text in texts}
    for number, (site, note) in enumerate(notes.items(), 1):
        assert at[str(number)][1] == at[site][1] == at[note][1]
    assert at["1"][1] < at["2"][1] < at["3"][1] < at["4"][1]
    figures[0].draw_without_rendering()
    words = [text.get_window_extent() for text in texts if text.get_text() in [*notes, *at]]
    assert not any(
        a.overlaps(b) for a, b in itertools.combinations(words, 2) if a.width > 20 < b.width
    )


def test_a_block_has_no_other_sites():
    with pytest.raises(ValueError, match="'heads' is no site of dropout"):
        lab.block({"heads": "none"}, title="t", alt=ALT)


# --- sliders --------------------------------------------------------------------------------


def draw_bar(axes, size, shift=0):
    axes.bar([0, 1], [size, size + shift])
    return f"Two bars of height {size:g} and {size + shift:g}."


def test_a_slider_has_a_static_twin_with_a_panel_for_each_shown_value():
    control = lab.Range(0, 9, 1, start=3, shown=(1, 5, 9))
    bundle = shown(lambda: lab.slider(draw_bar, size=control))
    assert WIDGET in bundle
    for size in (1, 5, 9):
        assert f"height {size} and {size}." in bundle["text/html"]
    assert bundle["text/html"].count("<img") == 1


def test_moving_a_slider_changes_the_picture():
    made = []
    box = sliding.widgets.VBox
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sliding.widgets, "VBox", lambda parts: made.extend(parts) or box(parts))
        shown(lambda: lab.slider(draw_bar, size=lab.Range(0.0, 9.0, 0.5, start=3.0)))
    handle, image = made
    before = image.value
    handle.value = 4.5
    assert image.value != before
    assert "height 4.5" in image.value
    handle.value = 3.0
    assert image.value == before


# --- tokens ---------------------------------------------------------------------------------


def halves(text):
    """A step for the bytes one by one, and one for the whole."""
    if "!" in text:
        raise ValueError("no <b> here")
    data = text.encode()
    return [
        ("bytes", [(bytes([byte]), byte) for byte in data]),
        ("whole", [(data, 256)] if data else []),
    ]


def a_stepper(text):
    made = []
    box = token_pictures.widgets.VBox
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            token_pictures.widgets, "VBox", lambda parts: made.extend(parts) or box(parts)
        )
        bundle = shown(lambda: lab.tokens(halves, text=text))
    return bundle, *made


def test_tokens_stand_in_the_page_for_a_reader_without_a_kernel():
    bundle, *_ = a_stepper("a <b>")
    assert WIDGET in bundle
    assert "bytes, 5 tokens for 5 bytes" in bundle["text/html"]
    assert "whole, 1 token for 5 bytes" in bundle["text/html"]
    assert "a·&lt;b&gt;" in bundle["text/html"]
    assert "a|·|<|b|>" in bundle["text/plain"]


def test_typing_colours_the_new_text_as_its_last_step_leaves_it():
    _, box, slider, picture = a_stepper("ab")
    assert slider.value == slider.max == 1
    box.value = "xyz"
    assert "whole, 1 token for 3 bytes" in picture.value
    assert "xyz" in picture.value


def test_the_slider_steps_through_the_merges():
    _, _, slider, picture = a_stepper("ab")
    slider.value = 0
    assert "bytes, 2 tokens for 2 bytes" in picture.value
    slider.value = 1
    assert "whole, 1 token" in picture.value


def test_what_cannot_be_tokens_is_said_in_their_place():
    _, box, _, picture = a_stepper("ab")
    box.value = "ab!"
    assert picture.value == "<p>no &lt;b&gt; here</p>"
    box.value = ""
    assert "whole, 0 tokens" in picture.value


def test_half_a_character_is_shown_as_its_bytes():
    assert token_pictures.seen("é".encode()[:1]) == r"\xc3"
    assert token_pictures.seen(b" a\n") == "·a⏎"


@pytest.mark.parametrize("tint", token_pictures.TINTS)
def test_tokens_and_ids_can_be_read_on_their_tints(tint):
    assert (luminance(tint) + 0.05) / (luminance(pictures.INK) + 0.05) >= 4.5  # WCAG AA


# --- tables ---------------------------------------------------------------------------------


def test_a_tensor_is_shown_with_names_shape_and_indices(capsys):
    lab.show("B T", ids=torch.tensor([[1, 20, 3], [4, 5, 6]]))
    assert capsys.readouterr().out == (
        "ids  (B=2, T=3)  int64\n  b=0    1  20   3\n  b=1    4   5   6\n"
    )
    lab.show("T", x=torch.tensor([0.5, -1.25]))
    assert capsys.readouterr().out == "x  (T=2)  float32\n     0.50 -1.25\n"


def test_axes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="ids has 2 axes, and 'B T V' names 3"):
        lab.show("B T V", ids=torch.zeros(2, 3))


# --- recorded runs --------------------------------------------------------------------------


def doubled(seed, factor):
    return {"value": seed * factor}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RUNS", tmp_path)
    monkeypatch.delenv("COMPANION_RECORD", raising=False)
    return tmp_path


def record(monkeypatch, **settings):
    monkeypatch.setenv("COMPANION_RECORD", "1")
    made = lab.recorded(doubled, lesson="99_test", seeds=(1, 2), **settings)
    monkeypatch.delenv("COMPANION_RECORD")
    return made


def test_a_record_comes_back_as_it_was_made(runs, monkeypatch):
    made = record(monkeypatch, factor=3)
    again = lab.recorded(doubled, lesson="99_test", seeds=(1, 2), factor=3)
    assert again == made
    assert again.results == {1: {"value": 3}, 2: {"value": 6}}
    assert "python tools/lessons.py record 99_test" in str(again)


def test_without_a_record_the_command_that_makes_it_is_named(runs):
    with pytest.raises(FileNotFoundError, match=r"tools/lessons\.py record 99_test"):
        lab.recorded(doubled, lesson="99_test", seeds=(1, 2), factor=3)


@pytest.mark.parametrize(
    ("seeds", "factor", "what"), [((1, 3), 3, "seeds"), ((1, 2), 4, "settings")]
)
def test_a_record_of_other_settings_is_refused(runs, monkeypatch, seeds, factor, what):
    record(monkeypatch, factor=3)
    with pytest.raises(ValueError, match=f"was recorded with {what}"):
        lab.recorded(doubled, lesson="99_test", seeds=seeds, factor=factor)


def test_a_record_of_other_code_is_refused(runs, monkeypatch):
    record(monkeypatch, factor=3)
    path = runs / "99_test_doubled.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code": "another"}))
    with pytest.raises(ValueError, match="was recorded with code another"):
        lab.recorded(doubled, lesson="99_test", seeds=(1, 2), factor=3)


def test_a_recording_that_fails_leaves_the_old_record(runs, monkeypatch):
    record(monkeypatch, factor=3)
    with pytest.raises(TypeError):
        record(monkeypatch, factor=None)
    monkeypatch.delenv("COMPANION_RECORD", raising=False)
    assert lab.recorded(doubled, lesson="99_test", seeds=(1, 2), factor=3).results[2]["value"] == 6


def test_the_newest_record_of_a_benchmark_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"python benchmarks/loss\.py"):
        lab.benchmark("loss")
    for day in ("2026-02-01", "2025-11-30"):
        (tmp_path / f"loss_{day}.json").write_text(json.dumps({"date": day}))
    assert lab.benchmark("loss")["date"] == "2026-02-01"


def test_a_benchmark_names_its_cpu_and_replaces_no_record(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(records.COURSE / "benchmarks")
    keeping = importlib.import_module("keeping")
    monkeypatch.setattr(keeping, "RESULTS", tmp_path)
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    for run in (1, 2, 3):
        keeping.keep("loss", {"run": run, "machine": keeping.this_machine()})
    assert [json.loads(path.read_text())["run"] for path in sorted(tmp_path.iterdir())] == [1, 2, 3]
    assert lab.benchmark("loss")["run"] == 3
    assert re.fullmatch(r"\d+ cores, \S.*, \S+, \S+", lab.benchmark("loss")["machine"])
