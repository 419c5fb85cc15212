"""Ten million images: the time to open the cached index, and the growth of workers' memory over an epoch.

    python benchmarks/index_at_scale.py [count] [output.json]

The index is written in castlit's format for real (empty) folders, as opening checks their times. No image is read: the
benchmark measures index and sampler. For comparison, the same names are kept in a Python list, as in most datasets.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from castlit.bench.machine import machine
from castlit.data.datamodules.sampler import EpochSampler
from castlit.data.index.build import stamp_folders
from castlit.data.index.cache import open_index
from castlit.data.index.image_index import ImageIndex
from castlit.data.io.masks import THRESHOLD
from castlit.utils.bytes_array import BytesArray
from castlit.utils.json_files import write_json

FOLDERS = 1000
MASK_BYTES = 200  # a real mask takes about 1,000; ten million of these fit on a small disk
WORKERS = 2
BATCH = 2000


class Entries(Dataset):
    """Looks up an image and its mask, without reading the files."""

    def __init__(self, index):
        self.index = index

    def __len__(self):
        return len(self.index)

    def __getitem__(self, key):
        return len(self.index[key[1]].image) + len(self.index.packed[key[1]])


class Names(Entries):
    """Looks up a name in a list of strings."""

    def __getitem__(self, key):
        return len(self.index[key[1]])


def with_memory(lengths):
    return sum(lengths), torch.utils.data.get_worker_info().id, private_mib()


def private_mib():
    """This process's private memory, in MiB."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("no Private_Dirty in /proc/self/smaps_rollup")


def write_index(top, count):
    images, masks = top / "images", top / "masks"
    names = []
    for number in range(FOLDERS):
        folder = f"part{number:04d}"
        (images / folder).mkdir(parents=True)
        (masks / folder).mkdir(parents=True)
        names += [b"%s/%012d" % (folder.encode(), i) for i in range(number, count, FOLDERS)]
    names.sort()
    index = ImageIndex(
        images=BytesArray.of([name + b".jpg" for name in names]),
        masks=BytesArray.of([name + b".png" for name in names]),
        packed=BytesArray(np.zeros(count * MASK_BYTES, np.uint8), np.arange(count + 1, dtype=np.int64) * MASK_BYTES),
        states=np.ones((count, 2), np.int64),
        sizes=np.full((count, 2), (480, 640), np.int32),
        areas=np.full(count, 0.2, np.float32),
        problems=np.zeros(count, np.uint8),
        details=BytesArray.of([]),
        orphans=BytesArray.of([]),
        stamp=stamp_folders(images, masks, THRESHOLD),
    )
    # open_index creates the folder for an index of the empty folders; replace that index.
    index.save(open_index(images, masks, THRESHOLD, top / "cache").folder)
    return images, masks


def epoch_memory(dataset):
    """A worker's largest private memory after a tenth of an epoch and at its end, in MiB, and the epoch's seconds."""
    sampler = EpochSampler(dataset)
    loader = DataLoader(
        dataset,
        BATCH,
        sampler=sampler,
        num_workers=WORKERS,
        collate_fn=with_memory,
        multiprocessing_context="fork",
    )
    seen = [[] for _ in range(WORKERS)]
    start = time.perf_counter()
    for _, worker, memory in loader:
        seen[worker].append(memory)
    seconds = time.perf_counter() - start
    first = max(memories[len(memories) // 10] for memories in seen)
    return {
        "mib_at_a_tenth": round(first, 1),
        "mib_at_the_end": round(max(m[-1] for m in seen), 1),
        "s": round(seconds),
    }


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory() as folder:
        images, masks = write_index(Path(folder), count)
        start = time.perf_counter()
        index = open_index(images, masks, THRESHOLD, Path(folder) / "cache")
        opened = time.perf_counter() - start
        if len(index) != count:
            raise SystemExit("the index was not found again")
        row = {
            "benchmark": "index_at_scale",
            "entries": count,
            "folders": FOLDERS,
            "mask_bytes": MASK_BYTES,
            "open_s": round(opened, 4),
            "index_mib": round(sum(file.stat().st_size for file in index.folder.iterdir()) / 2**20),
            "workers": WORKERS,
            "epoch_with_index": epoch_memory(Entries(index)),
        }
        names = [index[i].image for i in range(count)]
        row["epoch_with_python_list"] = epoch_memory(Names(names))
        row["machine"] = machine()
    print(json.dumps(row))
    if len(sys.argv) > 2:
        write_json(Path(sys.argv[2]), row)


if __name__ == "__main__":
    main()
