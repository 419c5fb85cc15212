"""kNN against a plain float64 loop, and its limits."""

import numpy as np
import pytest
import torch

from castlit.evaluation import knn_accuracy
from castlit.utils.validation import InputError


def naive(features, labels, bank, bank_labels, k, temperature, leave_one_out):
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    bank_unit = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    right = 0
    for i in range(len(features)):
        scores = sorted(
            (
                (float(unit[i] @ bank_unit[j]), int(bank_labels[j]))
                for j in range(len(bank))
                if not leave_one_out or i != j
            ),
            reverse=True,
        )
        votes = {}
        for score, label in scores[:k]:
            votes[label] = votes.get(label, 0.0) + np.exp(score / temperature)
        right += max(votes, key=votes.get) == labels[i]
    return right / len(features)


@pytest.mark.parametrize("k", [1, 5, 200])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_equals_loop(k, temperature):
    rng = np.random.default_rng(k)
    features, bank = rng.normal(size=(40, 6)), rng.normal(size=(60, 6))
    labels, bank_labels = rng.integers(0, 3, 40), rng.integers(0, 3, 60)
    as_tensors = torch.from_numpy(features), torch.from_numpy(labels)
    with_bank = knn_accuracy(*as_tensors, (torch.from_numpy(bank), torch.from_numpy(bank_labels)), k, temperature)
    assert with_bank == pytest.approx(naive(features, labels, bank, bank_labels, k, temperature, False))
    alone = knn_accuracy(*as_tensors, k=k, temperature=temperature)
    assert alone == pytest.approx(naive(features, labels, features, labels, k, temperature, True))


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1e15, 1e30])
def test_scale_does_not_matter(scale):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 60)
    features = rng.normal(size=(6, 8))[labels] + 2 * rng.normal(size=(60, 8))
    given = torch.from_numpy(features * scale).float(), torch.from_numpy(labels)
    expected = naive(features, labels, features, labels, 5, 0.07, True)
    assert 0.2 < expected < 0.9
    # Of 1e-40, float32 keeps five digits.
    assert knn_accuracy(*given, k=5) == pytest.approx(expected, abs=0.04 if scale == 1e-40 else 1e-6)


def test_clusters_and_noise():
    labels = torch.arange(10).repeat_interleave(30)
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 32, generator=generator)
    noise = torch.randn(300, 32, generator=generator)
    assert knn_accuracy(centres[labels] + 0.1 * noise, labels) == 1.0
    assert knn_accuracy(noise, labels) < 0.2


def test_small_temperature_is_finite():
    features, labels = torch.eye(4).repeat(2, 1), torch.arange(4).repeat(2)
    assert knn_accuracy(features, labels, k=3, temperature=1e-4) == 1.0


def test_invalid_input():
    with pytest.raises(InputError, match="at least one"):
        knn_accuracy(torch.ones(1, 3), torch.zeros(1, dtype=torch.long))
    with pytest.raises(InputError, match="k must be"):
        knn_accuracy(torch.ones(2, 3), torch.zeros(2, dtype=torch.long), k=0)
