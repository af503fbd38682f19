"""TRL's packing of the samples in an .npz file: times in ms and rows, as JSON."""

from __future__ import annotations

import json
import statistics
import sys
import time

import datasets
import numpy as np
import pyarrow as pa
from trl.data_utils import pack_dataset


def main(path: str, seq_length: int, rounds: int) -> None:
    """Pack columns of lists, as a data set holds them, in one batch and as it does by default."""
    datasets.disable_progress_bars()
    arrays = np.load(path)
    lists = {
        name: pa.ListArray.from_arrays(pa.array(arrays["offsets"].astype(np.int32)), pa.array(flat))
        for name, flat in arrays.items()
        if name != "offsets"
    }
    data = datasets.Dataset(pa.table(lists))
    found = {}
    for name, settings in {"TRL bfd": {}, "TRL bfd, one batch": {"batch_size": None}}.items():
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            packed = pack_dataset(
                data, seq_length, "bfd", {**settings, "load_from_cache_file": False}
            )
            times.append(1e3 * (time.perf_counter() - began))
        found[name] = {"ms": statistics.median(times), "rows": len(packed)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
