import itertools

import pytest
from torch.utils.data import DistributedSampler

from castlit.data import EpochSampler
from castlit.data.datamodules.sampler import sample_rng
from castlit.utils.validation import InputError


def test_is_a_distributed_sampler():
    assert isinstance(EpochSampler(range(3)), DistributedSampler)
    sampler = EpochSampler(range(3))
    assert (sampler.rank, sampler.num_replicas) == (0, 1)


def test_epochs_are_permutations():
    sampler = EpochSampler(range(50), seed=4)
    epochs = [list(sampler) for _ in range(3)]
    for number, epoch in enumerate(epochs):
        assert {n for n, _ in epoch} == {number}
        assert sorted(i for _, i in epoch) == list(range(50))
        assert len(sampler) == 50
    orders = [[i for _, i in epoch] for epoch in epochs]
    assert orders[0] != orders[1] != orders[2]


def test_set_epoch():
    sampler = EpochSampler(range(20), seed=4)
    free = [list(sampler) for _ in range(4)]
    sampler.set_epoch(2)
    assert list(sampler) == free[2]
    assert list(sampler) == free[3]
    sampler.set_epoch(2)
    assert list(sampler) == free[2]
    assert list(EpochSampler(range(20), seed=5)) != free[0]


@pytest.mark.parametrize(("count", "ranks"), [(12, 1), (12, 3), (13, 3), (14, 3), (2, 4), (1, 3), (100, 7)])
def test_ranks_partition_the_samples(count, ranks):
    shares = [[i for _, i in EpochSampler(range(count), num_replicas=ranks, rank=rank)] for rank in range(ranks)]
    assert {len(share) for share in shares} == {-(-count // ranks)}
    everything = list(itertools.chain(*shares))
    assert set(everything) == set(range(count))
    assert len(everything) - count < ranks
    if count % ranks == 0:
        assert len(set(everything)) == len(everything)


def test_without_shuffle():
    assert list(EpochSampler(range(4), shuffle=False)) == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_sample_rng_is_unique():
    keys = list(itertools.product(range(3), range(20), range(50)))
    assert len({sample_rng(*key).random() for key in keys}) == len(keys)
    assert sample_rng(1, 2, 3).random() == sample_rng(1, 2, 3).random()


@pytest.mark.parametrize(
    "arguments",
    [
        {"dataset": []},
        {"num_replicas": 0},
        {"num_replicas": 2, "rank": 2},
        {"rank": -1},
        {"seed": -1},
        {"seed": 0.5},
        {"seed": 2**32},
    ],
)
def test_bad_arguments(arguments):
    with pytest.raises(InputError):
        EpochSampler(**{"dataset": range(5), **arguments})
