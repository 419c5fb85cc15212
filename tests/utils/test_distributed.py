"""Gather and shuffle on two processes (gloo), and on one, where they are the identity."""

from pathlib import Path

import pytest
import torch

from castlit.nn.shuffled_batchnorm import encode_shuffled
from castlit.utils.distributed import gather, gather_with_gradient, rank, world_size
from castlit.utils.late_maximum import LateMaximum


@pytest.fixture(scope="module")
def ranks(tmp_path_factory, run_two_ranks):
    """The results of both ranks, see two_ranks.py."""
    folder = tmp_path_factory.mktemp("two_ranks")
    script = Path(__file__).with_name("two_ranks.py")
    return run_two_ranks(script, folder)


def test_rank_and_world_size(ranks):
    assert [found["world"] for found in ranks] == [(2, 0), (2, 1)]


def test_gather_in_rank_order(ranks):
    x = torch.arange(6.0).view(3, 2)
    expected = torch.cat([x, x + 100])
    for found in ranks:
        for kind in ("contiguous", "transposed", "int"):
            assert torch.equal(found["gather"][kind].float(), expected), kind


def test_gather_gradient_is_summed(ranks):
    everything = torch.randn(16, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = sum(found["gradient"]["weight"] for found in ranks)
    (everything.sin() * weight).sum().backward()
    for found, part in zip(ranks, everything.grad.chunk(2), strict=True):
        assert torch.equal(found["gradient"]["forward"], everything.detach())
        assert torch.allclose(found["gradient"]["gradient"], part, atol=1e-6)


def test_backward_does_not_change_other_gradients(ranks):
    for found in ranks:
        assert (found["gradient"]["of_other"] == 3).all()


def test_ddp_gradient_equals_single_process(ranks):
    for found in ranks:
        assert found["ddp"]["single"].abs().max() > 0.01
        assert torch.allclose(found["ddp"]["ddp"], found["ddp"]["single"], rtol=1e-4, atol=1e-6)


KINDS = pytest.mark.parametrize(("kind", "count"), [("shuffle", 8), ("uneven shuffle", 9)])


@KINDS
def test_shuffle_is_undone(ranks, kind, count):
    for found in ranks:
        expected = (found[kind]["images"] * 2 + 1)[:, None].expand(count, 3)
        assert torch.equal(found[kind]["embeddings"], expected)
        everybodys = torch.cat([other[kind]["embeddings"] for other in ranks])
        assert torch.equal(found[kind]["everybodys"], everybodys)


@KINDS
def test_extra_tensors_are_shuffled_alike(ranks, kind, count):
    for found in ranks:
        images, company = found[kind]["together"].split([3, 2], 1)
        assert torch.equal(company, found[kind]["company"])
        assert torch.equal(images[:, :2] * 10, company)
        assert torch.equal(found[kind]["leading"], torch.cat([other[kind]["together"][:, :2] for other in ranks]))


@KINDS
def test_images_are_shuffled_over_ranks(ranks, kind, count):
    seen = [found[kind]["seen"][0] for found in ranks]
    assert [len(found[kind]["seen"]) for found in ranks] == [1, 1]
    everything = torch.cat([found[kind]["images"] for found in ranks])
    assert torch.equal(torch.cat(seen).sort().values, everything), "each image once"
    for number, batch in enumerate(seen):
        assert len(batch) == count
        foreign = (batch >= 100) != bool(number)
        assert 0 < foreign.sum() < count
        assert not torch.equal(batch, batch.sort().values)


def test_shuffle_receives_a_batch_of_images(ranks):
    image, embedding = 3 * 2 * 2 * 4, 3 * 4
    for found in ranks:
        # The images, their embeddings back, and the embeddings of both ranks for the queue.
        assert found["shuffle"]["bytes"] == [8 * image, 8 * embedding, 2 * 8 * embedding]
        # Not divisible: the images of both ranks, and all embeddings.
        assert found["uneven shuffle"]["bytes"] == [2 * 9 * image, 2 * 9 * embedding]


def test_single_process():
    x = torch.randn(3, 2, requires_grad=True)
    assert (world_size(), rank()) == (1, 0)
    assert gather(x) is x
    assert gather_with_gradient(x) is x
    images = torch.randn(4, 3, 2, 2)
    seen = []
    embeddings, everybodys = encode_shuffled(lambda batch: seen.append(batch) or batch.mean((2, 3)), images)
    assert seen[0] is images
    assert torch.equal(embeddings, images.mean((2, 3)))
    assert everybodys is embeddings


def test_late_maximum_is_of_the_step_before(ranks):
    assert [found["late"] for found in ranks] == [[0, 0, 1, 3, 2, 0]] * 2


def test_late_maximum_alone():
    late = LateMaximum()
    late.open()
    late.send(2)
    assert (late.take(), late.take()) == (2, 0)
    late.close()
