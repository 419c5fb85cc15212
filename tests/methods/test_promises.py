"""The properties of castlit.methods.Method on which Grad-CAM relies, for every method."""

import pytest
import torch
from torch.nn import functional as F

from castlit.attention import attention_loss, grad_cam, raw_cam, tap
from castlit.methods import Method
from castlit.nn import unit_length
from castlit.utils.serializable import build, describe

NAMES = ["moco v1", "moco v2", "simclr", "byol", "simsiam", "moco v3", "densecl", "vicreg"]
WITH_AVERAGE = ["moco v1", "moco v2", "byol", "moco v3", "densecl"]
WITH_QUEUE = ["moco v1", "moco v2", "densecl"]


def state(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same(network, before):
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_target_is_stateless(make_method, views, name, training):
    method, (query, key) = make_method(name).train(training), views()
    before = state(method)
    z = method.target(key)
    assert not z.requires_grad
    assert_same(method, before)
    assert torch.allclose(z.norm(dim=1), torch.ones(5, dtype=z.dtype))
    assert z.shape == method(query, key).embedding.shape
    branch = method.momentum_encoder if name in WITH_AVERAGE else method.encoder
    assert torch.allclose(z, F.normalize(branch(key), dim=1), rtol=1e-10), "normalised by the batch in training"


@pytest.mark.parametrize("name", NAMES)
def test_embedding_has_unit_length(make_method, views, name):
    method, (query, key) = make_method(name), views()
    loss, embedding = method(query, key)
    assert loss.shape == ()
    assert torch.allclose(embedding.norm(dim=1), torch.ones(5, dtype=embedding.dtype))
    assert embedding.requires_grad
    # embed() gives the same without contrasting anything.
    assert torch.allclose(method.embed(query), embedding)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_unnormalised_embedding(make_method, views, name, masked):
    method, (query, key) = make_method(name), views()
    output = method(query, key, *([torch.ones(5, 1, 24, 31)] if masked else []))
    assert output.unnormalised.requires_grad
    assert torch.equal(unit_length(output.unnormalised), output.embedding)
    assert not torch.allclose(output.unnormalised.norm(dim=1), torch.ones(5, dtype=torch.float64), atol=0.01)
    assert torch.allclose(method.embed_unnormalised(query), output.unnormalised)


@pytest.mark.parametrize("name", NAMES)
def test_query_pass_is_first_and_single(make_method, views, name):
    method, (query, key) = make_method(name), views()
    seen = []
    method.encoder.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method(query, key)
    assert torch.equal(seen[0], query)
    assert sum(torch.equal(images, query) for images in seen) == 1
    assert len(seen) == (1 if name in WITH_QUEUE else 2), "the other methods are symmetric"


@pytest.mark.parametrize("name", NAMES)
def test_masked_key_from_key_pass(make_method, views, name):
    method, (query, key) = make_method(name), views()
    branch = method.momentum_encoder if name in WITH_AVERAGE else method.encoder
    passes = []
    branch.backbone.register_forward_hook(lambda module, inputs, maps: passes.append(maps.detach()))
    mask = (torch.rand(5, 1, 24, 31) > 0.5).byte()
    plain = method(query, key)
    count = len(passes)
    output = method(query, key, mask)
    assert len(passes) == 2 * count, "no further pass"
    assert not output.masked_key.requires_grad
    share = F.adaptive_avg_pool2d(mask.double(), passes[-1].shape[2:])
    pooled = (passes[-1] * share).sum((2, 3)) / share.sum((2, 3))
    assert torch.allclose(output.masked_key, F.normalize(branch.head(pooled), dim=1), rtol=1e-9)
    if name not in WITH_QUEUE:  # whose queue has changed
        assert torch.allclose(output.loss, plain.loss, rtol=1e-9)
    assert torch.allclose(output.embedding, plain.embedding, rtol=1e-9)
    assert torch.allclose(method.masked_target(key, mask), output.masked_key, rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_masked_key_is_stateless(make_method, views, name):
    method, (query, key) = make_method(name), views()
    twin = make_method(name)
    twin.load_state_dict(method.state_dict())
    method(query, key)
    twin(query, key, torch.ones(5, 1, 12, 15))
    assert_same(twin, state(method))
    before = state(method)
    z = method.masked_target(key, torch.ones(5, 1, 12, 15))
    assert_same(method, before)
    assert torch.allclose(z, method.target(key), rtol=1e-9), "a full mask keeps everything"


@pytest.mark.parametrize("name", NAMES)
def test_cams_are_independent(make_method, views, name):
    # Plain batch norm in a head would subtract the common part of all images' gradients from each.
    method, (query, key) = make_method(name), views()
    with tap(method.encoder, "layer4") as activations:
        embedding = method(query, key).embedding
    score = (embedding * method.target(key)).sum(1)
    weights = torch.tensor([1.0, -2.0, 0.0, 30.0, 0.5], dtype=torch.float64)
    expected = weights[:, None, None] * raw_cam(score, activations)
    assert torch.allclose(raw_cam(weights * score, activations), expected, rtol=1e-7, atol=1e-12)
    assert expected.abs().max() > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_empty_mask_is_finite(make_method, views, name):
    output = make_method(name)(*views(), torch.zeros(5, 1, 12, 15))
    assert output.masked_key.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_changes_nothing(make_method, views, name):
    method = make_method(name).eval()
    before = state(method)
    method(*views())
    assert_same(method, before)


@pytest.mark.parametrize("name", NAMES)
def test_all_weights_get_gradients(make_method, views, name):
    # DDP raises for a parameter without a gradient.
    method = make_method(name)
    method(*views()).loss.backward()
    for path, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, path


@pytest.mark.parametrize("name", NAMES)
def test_encoder_has_backbone(make_method, name):
    names = [path for path, _ in make_method(name).encoder.backbone.named_children()]
    assert names == ["conv1", "bn1", "relu", "layer4"]


@pytest.mark.parametrize(
    "spec",
    [
        {"_target_": "castlit.methods.MoCo", "dim": 8, "queue_size": 15, "mlp": False, "shuffle_bn": False},
        {"_target_": "castlit.methods.SimCLR", "dim": 8, "temperature": 0.3},
        {"_target_": "castlit.methods.BYOL", "dim": 8, "hidden": 9, "momentum": 0.5},
        {"_target_": "castlit.methods.SimSiam", "dim": 8, "hidden": 9},
        {"_target_": "castlit.methods.MoCoV3", "dim": 8, "hidden": 9, "momentum": 0.5, "temperature": 0.3},
        {"_target_": "castlit.methods.DenseCL", "dim": 8, "queue_size": 15, "dense_weight": 0.25, "shuffle_bn": False},
        {"_target_": "castlit.methods.VICReg", "dim": 8, "hidden": 9, "invariance": 2.0, "covariance": 0.5},
    ],
    ids=lambda spec: spec["_target_"],
)
def test_describe_round_trip(spec):
    method = build({**spec, "backbone": "tiny_resnet"})
    assert isinstance(method, Method)
    again = build(describe(method))
    again.load_state_dict(method.state_dict())
    for name, value in spec.items():
        if name not in ("_target_", "dim", "hidden", "queue_size", "mlp"):  # the weights' shapes depend on these
            assert getattr(again, name) == value


def test_missing_forward():
    with pytest.raises(NotImplementedError, match="Method must define forward"):
        Method()(None, None)


@pytest.mark.parametrize("name", NAMES)
def test_zero_embedding_has_finite_gradients(make_method, views, name):
    method, (query, key) = make_method(name), views()

    def first_to_zeros(module, inputs, made):
        shown = torch.ones(len(made), 1, dtype=made.dtype).index_fill(0, torch.tensor(0), 0.0)
        return made * shown

    # The output of a head without a last bias if all its hidden units are inactive.
    last = getattr(method, "predictor", method.encoder.head)
    last.register_forward_hook(first_to_zeros)
    with tap(method.encoder.backbone, "layer4") as maps:
        loss, embedding = method(query, key)
    assert torch.equal(embedding[0], torch.zeros_like(embedding[0]))
    score = (embedding * method.target(query.roll(1, 0))).sum(1)
    masks = torch.ones(5, 1, 12, 15)
    masks[..., :6] = 0
    (loss + attention_loss(grad_cam(score, maps), masks)).backward()
    for weight, parameter in method.encoder.named_parameters():
        assert torch.isfinite(parameter.grad).all(), weight
        assert parameter.grad.abs().max() < 1e3, weight


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_replaced_loss_keeps_the_embeddings(make_method, views, name, masked):
    """As in a subclass that changes its parent's loss; ``attention.target=evidence`` needs the unnormalised one."""
    query, key = views()
    mask = torch.ones_like(key[:, :1]) if masked else None
    output = make_method(name)(query, key, mask)
    changed = output._replace(loss=2 * output.loss)
    assert type(changed) is type(output)
    assert changed.loss == 2 * output.loss
    assert all(mine is its for mine, its in zip(changed[1:], output[1:], strict=True))
    assert changed.unnormalised is output.unnormalised
