from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from tests.trees import tensor

from mfunc.nn import position
from mfunc.transform import jit

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "llama_rope.npz"
LLAMA3 = (8.0, 1.0, 4.0, 64)


def ids(*rows: list[int]) -> Tensor:
    return Tensor(rows, ms.int32)


def turned(x: Tensor, place: int, frequency: np.ndarray) -> np.ndarray:
    """One vector [D], turned by its position."""
    table = position.rotary(ids([place]), 1, frequency)
    return position.rotate(x.reshape((1, 1, 1, -1)), table).asnumpy().reshape(-1)


def test_frequencies_by_the_formula():
    seen = position.frequencies(8, 500000.0)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, [500000.0 ** (-i / 4) for i in range(4)], rtol=1e-7)


def test_scaled_frequencies_agree_with_transformers():
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(
            position.frequencies(8, 10000.0, LLAMA3), golden["inv_freq"], rtol=1e-6
        )


def test_scaling_keeps_fast_rotations_and_slows_slow_ones():
    plain, scaled = position.frequencies(8, 10000.0), position.frequencies(8, 10000.0, LLAMA3)
    assert scaled[0] == plain[0]
    assert plain[1] / 8 < scaled[1] < plain[1]
    np.testing.assert_allclose(scaled[2:], plain[2:] / 8, rtol=1e-7)


def test_tables_are_cosine_and_sine_of_every_position():
    frequency = position.frequencies(6, 100.0)
    place = np.array([[0, 1, 2, 3], [5, 0, 900, 7]])
    cos, sin = position.rotary(ids(*place.tolist()), 3, frequency)
    angle = place[:, None, :, None] * np.tile(frequency.astype(np.float64), 2)
    signed = np.sin(angle) * [-1, -1, -1, 1, 1, 1]
    for table, wanted in ((cos, np.cos(angle)), (sin, signed)):
        assert table.shape == (2, 3, 4, 6)
        np.testing.assert_allclose(table.asnumpy(), np.tile(wanted, (1, 3, 1, 1)), atol=5e-5)


def test_pairs_are_the_two_halves():
    """Feature i is turned with feature i + D / 2 (Hugging Face), not with its neighbour."""
    frequency = position.frequencies(4, 10000.0)
    first = turned(Tensor(np.float32([1, 0, 0, 0])), 3, frequency)
    np.testing.assert_allclose(first, [np.cos(3), 0, np.sin(3), 0], atol=1e-6)
    second = turned(Tensor(np.float32([0, 0, 0, 1])), 3, frequency)
    np.testing.assert_allclose(second, [0, -np.sin(0.03), 0, np.cos(0.03)], atol=1e-6)


def test_position_zero_changes_nothing():
    x = tensor(8)
    np.testing.assert_array_equal(turned(x, 0, position.frequencies(8, 10000.0)), x.asnumpy())


@pytest.mark.parametrize("place", [1, 17, 2000])
def test_lengths_are_kept(place):
    x = tensor(8, seed=place)
    seen = turned(x, place, position.frequencies(8, 10000.0))
    np.testing.assert_allclose(np.linalg.norm(seen), np.linalg.norm(x.asnumpy()), rtol=1e-6)


def test_products_see_only_the_distance():
    frequency, q, k = position.frequencies(8, 100.0), tensor(8, seed=1), tensor(8, seed=2)
    products = [
        turned(q, place + 5, frequency) @ turned(k, place, frequency) for place in (0, 3, 40)
    ]
    np.testing.assert_allclose(products, products[0], rtol=1e-5)
    assert abs(turned(q, 6, frequency) @ turned(k, 0, frequency) - products[0]) > 1e-2


FREQUENCY = position.frequencies(8, 10000.0)


def rotated(x, place):
    return position.rotate(x, position.rotary(place, 2, FREQUENCY))


def test_the_graph_turns_alike():
    x, place = tensor(2, 2, 3, 8), ids([0, 1, 2], [0, 1, 0])
    seen = jit(rotated)(x, place).asnumpy()
    np.testing.assert_allclose(seen, rotated(x, place).asnumpy(), atol=1e-6)
    np.testing.assert_array_equal(seen[1, :, 2], x.asnumpy()[1, :, 2])
