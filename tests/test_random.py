from __future__ import annotations

import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from tests.trees import assert_close

from mfunc import random
from mfunc.transform import jit

GOLDEN = json.loads((Path(__file__).parent / "golden" / "random.json").read_text())
KEY = random.key(7)

# Random123 1.09, tests/kat_vectors, threefry2x32 with 20 rounds: counter, key, result.
KNOWN_ANSWERS = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


def words(*values: int) -> np.ndarray:
    return np.array(values, np.uint32)


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_threefry_gives_the_known_answers(counter, key, result):
    high, low = (words(word) for word in counter)
    assert [int(word[0]) for word in random.threefry(words(*key), high, low)] == list(result)
    tensors = random.threefry(Tensor(words(*key)), Tensor(high), Tensor(low))
    assert [int(word.asnumpy()[0]) for word in tensors] == list(result)


def floats(texts: list[str]) -> np.ndarray:
    return words(*[int(text, 16) for text in texts]).view(np.float32)


@pytest.mark.parametrize("entry", GOLDEN, ids=[str(entry["seed"]) for entry in GOLDEN])
def test_agrees_with_jax(entry):
    key = random.key(entry["seed"])
    assert key.tolist() == entry["key"]
    for n, keys in entry["split"].items():
        assert [key.tolist() for key in random.split(key, int(n))] == keys
    for data, folded in entry["fold_in"]:
        assert random.fold_in(key, data).tolist() == folded
    for draw in entry["draws"]:
        shape = tuple(draw["shape"])
        bits, uniform, normal = (
            f(key, shape) for f in (random.bits, random.uniform, random.normal)
        )
        assert bits.shape == uniform.shape == normal.shape == shape
        assert bits.reshape(-1).tolist() == draw["bits"]
        np.testing.assert_array_equal(uniform.reshape(-1), floats(draw["uniform"]))
        np.testing.assert_allclose(normal.reshape(-1), floats(draw["normal"]), rtol=1e-5, atol=1e-6)


def exact(key, step):
    """Everything that must come out the same to the bit."""
    keys = random.split(key, 3)
    return (
        keys,
        random.bits(keys[0], (3, 5)),
        random.uniform(keys[1], (7,), -2.0, 3.0),
        random.bernoulli(keys[2], 0.3, (4, 4)),
        random.fold_in(key, step),
        random.fold_in(key, 9),
    )


def close(key, logits):
    """What goes through a logarithm, where libraries differ in the last digit."""
    return random.normal(key, (50,)), random.categorical(key, logits)


LOGITS = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def compiled():
    return jit(exact), jit(close)


@pytest.mark.parametrize("seed", [0, 2**40 + 3])
def test_the_same_bits_everywhere(compiled, seed):
    """NumPy, Tensors eagerly, and a compiled function, which reads new keys without compiling."""
    key, step = random.key(seed), 41 + seed % 2
    wanted = exact(key, step)
    eager = exact(Tensor(key), Tensor(step, ms.int32))
    graph = compiled[0](key, np.int32(step))
    for seen in (eager, graph):
        assert_close(seen, wanted)
    numbers, choice = close(key, LOGITS)
    for seen in (close(Tensor(key), Tensor(LOGITS)), compiled[1](key, LOGITS)):
        np.testing.assert_allclose(seen[0].asnumpy(), numbers, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(seen[1].asnumpy(), choice)
    assert [graph.compiles() for graph in compiled] == [1, 1]


def test_a_step_may_be_a_traced_number():
    """Steps count in Python; a new one compiles nothing."""
    fast = jit(random.fold_in)
    for step in (0, 5, 2**32 - 1):
        assert_close(fast(KEY, step), random.fold_in(KEY, step))
        assert_close(random.fold_in(Tensor(KEY), step), random.fold_in(KEY, step))
    assert fast.compiles() == 1


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=f"^random.key: seed is {seed}; it must be from 0 to"):
        random.key(seed)


def test_no_call_changes_the_key():
    key = random.key(3)
    random.split(key), random.fold_in(key, 1), random.normal(key, (4,))
    assert key.tolist() == [0, 3]
    np.testing.assert_array_equal(random.normal(key, (4,)), random.normal(key, (4,)))


def test_keys_do_not_repeat():
    """10,000 keys from splits, steps and names: all different."""
    keys = [*random.split(KEY, 4000), *random.split(random.fold_in(KEY, "w"), 3000)]
    keys += [random.fold_in(KEY, step) for step in range(2**31, 2**31 + 2000)]
    keys += [random.fold_in(KEY, f"layers/{i}/w") for i in range(1000)]
    assert len({tuple(key.tolist()) for key in keys}) == 10_000


def test_a_name_stands_for_its_crc():
    """CRC-32 of "123456789" is the check value of the standard."""
    np.testing.assert_array_equal(random.fold_in(KEY, "123456789"), random.fold_in(KEY, 0xCBF43926))


def test_a_prefix_of_a_longer_draw():
    """Numbers depend on the position alone, so a longer draw only adds to a shorter one."""
    np.testing.assert_array_equal(random.bits(KEY, (9,))[:4], random.bits(KEY, (4,)))


N = 200_000


def test_streams_are_independent():
    a, b = random.split(KEY)
    streams = [random.normal(key, (N,)) for key in (KEY, a, b, random.fold_in(KEY, 9))]
    correlation = np.corrcoef(np.stack([*streams, np.roll(streams[0], 1)])) - np.eye(5)
    assert np.abs(correlation).max() < 5 / np.sqrt(N)


def test_every_bit_is_fair():
    bits = np.unpackbits(random.bits(KEY, (N,)).view(np.uint8)).reshape(N, 32)
    assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(N)


def test_moments_of_the_normal():
    x = random.normal(KEY, (N,)).astype(np.float64)
    seen = [x.mean(), (x**2).mean(), (x**3).mean(), (x**4).mean(), (np.abs(x) > 3).mean()]
    wanted, deviation = [0, 1, 0, 3, 0.0026998], [1, 2**0.5, 15**0.5, 96**0.5, 0.0519]
    assert (np.abs(np.subtract(seen, wanted)) < 4 * np.array(deviation) / np.sqrt(N)).all()


def test_uniform_fills_its_range_evenly():
    x = random.uniform(KEY, (N,), -1.0, 3.0)
    assert x.dtype == np.float32
    assert -1.0 <= x.min() < -0.999
    assert 2.999 < x.max() < 3.0
    counts = np.histogram(x, 20, (-1.0, 3.0))[0]
    chi_square = ((counts - N / 20) ** 2 / (N / 20)).sum()
    assert chi_square < 43.8  # 19 degrees of freedom, one in a thousand


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.7, 1.0])
def test_bernoulli_has_its_probability(probability):
    x = random.bernoulli(KEY, probability, (N,))
    assert x.dtype == bool
    assert abs(x.mean() - probability) <= 4 * np.sqrt(probability * (1 - probability) / N)


def test_categorical_has_its_probabilities():
    probabilities = np.array([0.1, 0.6, 0.0, 0.3])
    logits = np.log(probabilities, where=probabilities > 0, out=np.full(4, -1e9))
    rows = np.tile(logits, (N, 1)).astype(np.float32)
    x = random.categorical(KEY, rows)
    assert (x.dtype, x.shape) == (np.int32, (N,))
    share = np.bincount(x, minlength=4) / N
    assert (np.abs(share - probabilities) <= 4 * np.sqrt(0.25 / N)).all()
    assert share[2] == 0


def test_normal_is_finite_at_the_ends():
    """The smallest and the largest uniform number have a finite inverse error function."""
    ends = np.float32([-0.99999994, 0.99999988, 0.0])
    assert np.isfinite(random._erfinv(ends)).all()
    assert random._erfinv(ends)[2] == 0
