from __future__ import annotations

import sys

import numpy as np
import pytest

from mfunc import draw

pytest.importorskip("matplotlib")
from matplotlib import colormaps, image

TAB = np.array(colormaps["tab10"].colors)
WHITE = np.ones(3)
LINE = np.array([0x1F, 0x4E, 0x79]) / 255


def pixels_of(path, colour):
    """How many pixels are of one RGB colour."""
    return int((np.abs(image.imread(path)[..., :3] - colour) < 0.01).all(-1).sum())


# --- losses ---


def test_curves_side_by_side(tmp_path):
    one = draw.losses(tmp_path / "new" / "one.png", {"pretrain": [3.0, 2.0, 1.0]})
    two = draw.losses(tmp_path / "two.png", {"pretrain": [3.0, 2.0], "LoRA": [1.0]}, title="mine")
    assert one == tmp_path / "new" / "one.png"
    assert one.read_bytes().startswith(b"\x89PNG")
    assert image.imread(two).shape[1] == 2 * image.imread(one).shape[1]
    assert pixels_of(one, LINE) > 100


def test_the_picture_shows_the_numbers(tmp_path):
    falling = draw.losses(tmp_path / "a.png", {"x": [3.0, 2.0, 1.0]})
    rising = draw.losses(tmp_path / "b.png", {"x": [1.0, 2.0, 3.0]})
    again = draw.losses(tmp_path / "c.png", {"x": [3.0, 2.0, 1.0]})
    assert not np.array_equal(image.imread(falling), image.imread(rising))
    np.testing.assert_array_equal(image.imread(falling), image.imread(again))


@pytest.mark.parametrize("curves", [{}, {"a": [1.0], "b": []}])
def test_a_curve_needs_a_step(tmp_path, curves):
    with pytest.raises(ValueError, match=r"draw.losses: every curve needs at least one step"):
        draw.losses(tmp_path / "x.png", curves)
    assert list(tmp_path.iterdir()) == []


# --- pack ---


def test_every_segment_has_its_colour_and_padding_none(tmp_path):
    segment_ids = np.array([[1, 1, 2, 0], [1, 1, 1, 1]])
    path = draw.pack(tmp_path / "sub" / "pack.png", segment_ids)
    assert path == tmp_path / "sub" / "pack.png"
    assert pixels_of(path, TAB[0]) > pixels_of(path, TAB[1]) > 1000
    assert pixels_of(path, TAB[2]) == pixels_of(path, TAB[-1]) == 0
    full = draw.pack(tmp_path / "full.png", np.ones((2, 4), int))
    assert pixels_of(path, WHITE) > pixels_of(full, WHITE)


def test_tokens_that_are_not_trained_are_pale(tmp_path):
    segment_ids, labels = np.array([[1, 1, 1, 1]]), np.array([[-100, -100, 5, 5]])
    pale = 0.45 * TAB[0] + 0.55
    marked = draw.pack(tmp_path / "a.png", segment_ids, labels)
    plain = draw.pack(tmp_path / "b.png", segment_ids)
    assert pixels_of(marked, pale) > 1000
    assert pixels_of(plain, pale) == 0
    assert pixels_of(plain, TAB[0]) > pixels_of(marked, TAB[0])


def test_the_mask_is_that_of_the_first_row(tmp_path):
    """Only the mask differs: many short documents leave less of the square than one long one."""
    one = draw.pack(tmp_path / "one.png", np.array([[1] * 8]))
    many = draw.pack(tmp_path / "many.png", np.array([np.arange(1, 9)]))
    assert pixels_of(many, WHITE) > pixels_of(one, WHITE) * 1.1


def test_only_so_many_rows_are_drawn(tmp_path):
    rows = np.array([[1, 1]] * 3 + [[1, 2]] * 3)
    assert pixels_of(draw.pack(tmp_path / "a.png", rows, rows=3), TAB[1]) == 0
    assert pixels_of(draw.pack(tmp_path / "b.png", rows, rows=6), TAB[1]) > 1000


@pytest.mark.parametrize("segment_ids", [np.zeros((0, 4), int), np.array([1, 1])])
def test_a_pack_needs_rows(tmp_path, segment_ids):
    with pytest.raises(
        ValueError, match=r"draw.pack: segment_ids has shape \(.*\); it must be \[row"
    ):
        draw.pack(tmp_path / "x.png", segment_ids)


def test_the_title_and_the_words_say_what_is_drawn(tmp_path):
    rows = np.array([[1, 1, 2]])
    plain = image.imread(draw.pack(tmp_path / "a.png", rows))
    assert not np.array_equal(
        plain, image.imread(draw.pack(tmp_path / "b.png", rows, title="my: "))
    )
    marked = image.imread(draw.pack(tmp_path / "c.png", rows, np.array([[-100, 5, -100]])))
    assert marked.shape == plain.shape


# --- lengths ---

BARS, OUTLINE = np.array([0x9D, 0xB8, 0xD2]) / 255, np.array([0xC8, 0x55, 0x3D]) / 255


def test_bars_for_lengths_and_an_outline_for_what_is_trained(tmp_path):
    sizes = np.array([3, 5, 5, 9])
    path = draw.lengths(tmp_path / "new" / "lengths.png", sizes)
    assert path == tmp_path / "new" / "lengths.png"
    assert image.imread(path).shape == (504, 1080, 4)
    assert pixels_of(path, BARS) > 1000
    assert pixels_of(path, OUTLINE) == 0
    assert pixels_of(draw.lengths(tmp_path / "b.png", sizes, sizes - 2), OUTLINE) > 200


def test_a_line_at_the_sequence_length_unless_it_is_beyond_all(tmp_path):
    sizes = np.array([3, 5, 5, 9])
    assert pixels_of(draw.lengths(tmp_path / "a.png", sizes, seq_length=6), LINE) > 200
    assert pixels_of(draw.lengths(tmp_path / "b.png", sizes, seq_length=100), LINE) == 0


def test_a_few_long_samples_do_not_squeeze_the_rest(tmp_path):
    """One sample of 10,000 would leave one bar of all others."""
    usual = np.arange(1000) % 100
    alone = pixels_of(draw.lengths(tmp_path / "a.png", usual), BARS)
    joined = pixels_of(draw.lengths(tmp_path / "b.png", np.append(usual, 10_000)), BARS)
    assert joined > 0.7 * alone


def test_equal_lengths_and_none(tmp_path):
    assert pixels_of(draw.lengths(tmp_path / "a.png", np.array([2049] * 9)), BARS) > 100
    assert draw.lengths(tmp_path / "b.png", np.array([0, 0])).is_file()
    with pytest.raises(ValueError, match=r"draw\.lengths: there is no sample"):
        draw.lengths(tmp_path / "c.png", np.array([], int))


# --- the log of a run ---

EVALUATED = np.array([0xC8, 0x55, 0x3D]) / 255


def test_the_log_of_a_run_shows_what_was_evaluated(tmp_path):
    rows = [{"step": n, "loss": 3.0 - n / 10, "running_loss": 9.0} for n in range(1, 9)]
    plain = draw.training(tmp_path / "new" / "a.png", rows)
    assert plain == tmp_path / "new" / "a.png"
    assert pixels_of(plain, LINE) > 100
    assert pixels_of(plain, EVALUATED) == 0
    watched = [{**row, **({"eval_loss": 2.5} if row["step"] % 4 == 0 else {})} for row in rows]
    assert pixels_of(draw.training(tmp_path / "b.png", watched), EVALUATED) > 100


def test_losses_that_are_no_numbers_are_left_out(tmp_path):
    rows = [{"step": 1, "loss": 3.0}, {"step": 3, "loss": 2.0}]
    holes = [rows[0], {"step": 2, "loss": None}, {"step": 2, "loss": float("nan")}, rows[1]]
    same = draw.training(tmp_path / "b.png", holes).read_bytes()
    assert draw.training(tmp_path / "a.png", rows).read_bytes() == same
    with pytest.raises(ValueError, match=r"draw\.training: no row has a loss"):
        draw.training(tmp_path / "c.png", [{"step": 1, "loss": None}])


# --- without matplotlib ---


@pytest.mark.parametrize(
    "call",
    [
        lambda path: draw.losses(path, {"a": [1.0]}),
        lambda path: draw.training(path, [{"step": 1, "loss": 1.0}]),
        lambda path: draw.pack(path, np.ones((1, 2), int)),
        lambda path: draw.lengths(path, np.ones(2, int)),
    ],
)
def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch, call):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r"mfunc.draw needs the extra `plot`: pip install 'mfunc\[plot\]'"
    with pytest.raises(ImportError, match=message):
        call(tmp_path / "x.png")
