"""The kernel runs on Ascend only: here its arguments are tested, and what they would compute."""

from __future__ import annotations

import json

import attrs
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from tests import models

import mfunc.data as md
from mfunc import tree
from mfunc.nn import attention, dense_attention, fused_attention
from mfunc.transform import jit

ROWS = np.array([[1, 1, 1, 2, 2, 0, 0], [1, 2, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0, 0]], np.int32)


@pytest.mark.parametrize("wrap", [lambda fn, **_: fn, jit], ids=["eager", "jit"])
@pytest.mark.parametrize("most", [8, 30])
def test_ends_are_those_of_the_data_and_then_of_tokens_nobody_looks_at(wrap, most):
    seen = wrap(fused_attention.see, static_argnums=1)(Tensor(ROWS), most)
    ends = seen["ends"].asnumpy()
    wanted = md.actual_seq_len(ROWS)
    assert ends[: len(wanted)].tolist() == wanted.tolist()
    assert len(ends) == most
    assert ends[-1] == ROWS.size + most
    assert (np.diff(ends, prepend=0) > 0).all()
    assert float(seen["unseen"]) == 0


def test_one_segment_too_many_gives_no_number():
    count = len(md.actual_seq_len(ROWS))
    assert not np.isnan(float(fused_attention.see(Tensor(ROWS), count + 1)["unseen"]))
    assert np.isnan(float(fused_attention.see(Tensor(ROWS), count)["unseen"]))


@pytest.mark.parametrize("most", [1, 1025])
def test_what_the_kernel_cannot_take_is_refused(most):
    with pytest.raises(ValueError, match=rf"most={most} segments; the kernel takes 2 to 1024: few"):
        fused_attention.see(Tensor(ROWS), most)


@pytest.mark.parametrize("version", ["v210", "head_c77308a"])
def test_ends_agree_with_mindspeed(shared, version):
    """But for padding, which is one segment here, and one a token there unless it is merged."""
    file = shared / f"golden/mindspeed/training/training_side_{version}.json"
    cases = json.loads(file.read_text())
    assert len(cases["neat_pack"]) > 3
    for case in cases["neat_pack"]:
        mask = np.int32([case["attention_mask"]])
        ends = fused_attention.see(Tensor(mask), 64)["ends"].asnumpy().tolist()
        documents = case["reference_cumulative_segments"]
        text = int((mask > 0).sum())
        assert [end for end in ends if end <= text] == [end for end in documents if end <= text]
        assert [end for end in ends if text < end <= mask.size] == [mask.size] * (text < mask.size)
    batch = cases["micro_batch_2"]
    segments = np.cumsum(np.array(batch["position_ids"]) == 0, axis=1).astype(np.int32)
    ends = fused_attention.see(Tensor(segments), 16)["ends"].asnumpy().tolist()
    assert (
        ends[: len(batch["actual_seq_len_flattened_b_s"])]
        == (batch["actual_seq_len_flattened_b_s"])
    )


def kernel(given: dict) -> np.ndarray:
    """What the documentation of `flash_attention_score` says of these arguments, in float64."""
    q, k, v = (given[name].asnumpy().astype(np.float64) for name in ("query", "key", "value"))
    assert given["input_layout"] == "TND"
    assert (given["sparse_mode"], given["next_tokens"]) == (3, 0)
    hidden, out = given["attn_mask"].asnumpy(), np.zeros(q.shape)
    share, start = q.shape[1] // k.shape[1], 0
    assert given["head_num"] == q.shape[1]
    for end in given["actual_seq_qlen"].asnumpy().tolist():
        for h in range(q.shape[1]):
            scores = q[start:end, h] @ k[start:end, h // share].T * given["scalar_value"]
            scores[hidden[: end - start, : end - start]] = -np.inf
            weights = np.exp(scores - scores.max(1, keepdims=True))
            out[start:end, h] = weights / weights.sum(1, keepdims=True) @ v[start:end, h // share]
        start = end
    return out


def test_the_kernel_would_compute_what_the_dense_way_does():
    rng = np.random.default_rng(0)
    q, k, v = (Tensor(rng.standard_normal((3, n, 7, 16)).astype(np.float16)) for n in (4, 2, 2))
    given = fused_attention.arguments(q, k, v, fused_attention.see(Tensor(ROWS), 12))
    assert given["query"].dtype == ms.float16
    seen = kernel(given)[: ROWS.size].reshape(3, 7, 4, 16).transpose(0, 2, 1, 3)
    bias = dense_attention.causal_bias(Tensor(ROWS), 4)
    wanted = dense_attention.attend(*[x.astype(ms.float32) for x in (q, k, v)], bias).asnumpy()
    real = np.broadcast_to((ROWS > 0)[:, None, :, None], wanted.shape)
    np.testing.assert_allclose(seen[real], wanted[real], atol=1e-5)


def test_a_model_of_half_precision_attends_by_it(monkeypatch):
    """On Ascend the model takes this way; here the kernel is what its documentation says."""
    config = attrs.evolve(models.TINY, head_dim=16)
    half = tree.map(
        lambda leaf: Tensor(leaf.asnumpy().astype(np.float16)), models.params(0, config)
    )
    batch = models.batch_of(ROWS)
    wanted = models.logits(half, config, batch).asnumpy()
    calls = []

    def computed(q, k, v, seen):
        batch, heads, length, width = q.shape
        calls.append(q.dtype)
        mixed = kernel(fused_attention.arguments(q, k, v, seen))[: batch * length]
        rows = mixed.reshape(batch, length, heads, width).transpose(0, 2, 1, 3)
        return Tensor(rows.astype(np.float16))

    on_ascend = {"device_target": "Ascend"}
    monkeypatch.setattr(attention.ms, "get_context", on_ascend.__getitem__)
    monkeypatch.setattr(fused_attention, "attend", computed)
    seen = models.logits(half, config, batch).asnumpy()
    assert calls == [ms.float16] * 2
    real = ROWS > 0
    assert np.abs(seen[real] - wanted[real]).max() < 0.01 * np.abs(wanted).max()
    assert not np.array_equal(seen, wanted)
