from __future__ import annotations

from tests import adapters, models
from tests.models import TINY

from mfunc.adapt import summary
from mfunc.nn import llama


def test_the_share_of_what_is_trained():
    seen = summary.trained_share(llama.specs(TINY), adapters.made("ptuning"))
    assert seen == "trained: 64 numbers beside the model's 5,200 (1.23 %)"
    assert summary.trained_share(models.params(), None).startswith("trained: 0 numbers beside")
