"""AttentionSupervision for other modules: gradients equal CASTModule's, and the module is restored."""

import copy
import pickle
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from castlit import CASTModule
from castlit.attention import AttentionLoss, has_object
from castlit.callbacks import AttentionSupervision, LabelLogit, MaskedKey
from castlit.methods import MoCo
from castlit.nn import HeadNorm
from castlit.utils.validation import InputError

SIZE = (12, 16)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def trunk():
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 5, 3, stride=2, bias=False),
            bn1=nn.BatchNorm2d(5),
            relu=nn.ReLU(),
            layer4=nn.Sequential(nn.Conv2d(5, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        )
    )


class Theirs(pl.LightningModule):
    """MoCo independent of castlit, with other names, batches and steps."""

    def __init__(self, method, as_dict=False):
        super().__init__()
        self.net = copy.deepcopy(method.encoder.backbone)
        self.projector = copy.deepcopy(method.encoder.head)
        self.slow_net = copy.deepcopy(method.momentum_encoder.backbone)
        self.slow_projector = copy.deepcopy(method.momentum_encoder.head)
        self.register_buffer("bank", method.queue.keys.clone())
        self.as_dict = as_dict

    def slow(self, images):
        with torch.no_grad():
            return F.normalize(self.slow_projector(self.slow_net(images).mean((2, 3))), dim=1)

    def training_step(self, batch, batch_idx):
        a, b = F.normalize(self.projector(self.net(batch["a"]).mean((2, 3))), dim=1), self.slow(batch["b"])
        logits = torch.cat([(a * b).sum(1, keepdim=True), a @ self.bank.T], 1) / 0.2
        loss = F.cross_entropy(logits, torch.zeros(len(a), dtype=torch.long))
        self.log("loss", loss)
        return {"loss": loss, "similarity": (a * b).sum(1).mean().detach()} if self.as_dict else loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.02, weight_decay=0)


class Watch(pl.Callback):
    """Records the gradients of the first step, and every attention loss."""

    def __init__(self):
        self.gradients, self.attention = {}, []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if not self.gradients:
            self.gradients = {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if "train/attention" in trainer.callback_metrics:
            self.attention.append(float(trainer.callback_metrics["train/attention"]))


def samples(count=12):
    """Every fifth query and one key show no object."""
    made = []
    for number in range(count):
        masks = {"query_mask": (torch.rand(1, *SIZE) > 0.6).byte(), "key_mask": (torch.rand(1, *SIZE) > 0.4).byte()}
        if number % 5 == 4:
            masks["query_mask"].zero_()
        if number == 2:
            masks["key_mask"].zero_()
        made.append({"query": torch.randn(3, *SIZE), "key": torch.randn(3, *SIZE), **masks})
    return made


def doubled(made):
    return [{name: x.double() if x.is_floating_point() else x for name, x in sample.items()} for sample in made]


def renamed(made):
    names = {"query": "a", "key": "b", "query_mask": "a_seg", "key_mask": "b_seg"}
    return [{names[name]: x for name, x in sample.items()} for sample in made]


def supervision(**changed):
    settings = {
        "encoder": "net",
        "embedding": "projector",
        "target": MaskedKey("slow", images="b", mask="b_seg"),
        "mask": "a_seg",
        **changed,
    }
    return AttentionSupervision(**settings)


def fit(module, made, *callbacks, batch_size=4, validation=None, ckpt_path=None, **options):
    torch.manual_seed(1)
    watch = Watch()
    settings = {"max_epochs": 1, "enable_checkpointing": False, **options}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            callbacks=[*callbacks, watch],
            **settings,
        )
        loader = DataLoader(made, batch_size, drop_last=True)
        trainer.fit(module, loader, validation and DataLoader(validation, batch_size), ckpt_path=ckpt_path)
    return trainer, watch


def method():
    made = MoCo(trunk(), dim=4, queue_size=7)
    with torch.no_grad():
        for parameter in made.momentum_encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def same(found, wanted, names):
    assert len(found) == len(wanted) > 0
    for name, gradient in found.items():
        other = wanted[names(name)]
        np.testing.assert_allclose(gradient, other, rtol=1e-6, atol=1e-6 * float(other.abs().max()), err_msg=name)


def castlits_name(name):
    return "method.encoder." + name.replace("net.", "backbone.").replace("projector.", "head.")


@pytest.mark.parametrize(
    ("as_dict", "batches", "options"),
    [
        (False, 1, {}),
        (True, 1, {}),
        (False, 2, {}),
        (True, 1, {"mode": "reference"}),
        (False, 1, {"cam": "signed", "target": "evidence"}),
    ],
)
def test_gradients_equal_cast_module(as_dict, batches, options):
    """Also with gradient accumulation."""
    ours, made = method(), doubled(samples(6 * batches))
    theirs = Theirs(ours, as_dict)
    # Their bank does not change, and so ours must not.
    ours.queue.enqueue = lambda keys: None
    settings = {"precision": "64-true", "batch_size": 6, "accumulate_grad_batches": batches}
    trainer, wanted = fit(CASTModule(ours, AttentionLoss(layer="layer4", **options)), made, **settings)
    metrics = {name: trainer.callback_metrics[f"train/{name}"] for name in ("attention", "pointing", "empty_masks")}
    score = MaskedKey("slow", images="b", mask="b_seg", target=options.get("target", "positive"))
    given = {**options, "target": score}
    trainer, found = fit(theirs, renamed(made), supervision(**given), **settings)
    same(found.gradients, wanted.gradients, castlits_name)
    for name, value in metrics.items():
        assert trainer.callback_metrics[f"train/{name}"] == pytest.approx(float(value), rel=1e-6), name
    assert trainer.callback_metrics["train/empty_masks"] > 0


def test_gradients_without_callback():
    start, made = Theirs(method()), renamed(samples(6))
    plain, measured, trained = (
        fit(copy.deepcopy(start), made, *callbacks, batch_size=6)[1]
        for callbacks in ([], [supervision(weight=0)], [supervision()])
    )
    assert plain.attention == []
    assert len(measured.attention) == 1
    for name, gradient in plain.gradients.items():
        assert torch.equal(gradient, measured.gradients[name])
    assert any(not torch.allclose(gradient, trained.gradients[name]) for name, gradient in plain.gradients.items())


class Looking(pl.LightningModule):
    """A classifier with a batch norm in its head."""

    def __init__(self):
        super().__init__()
        self.backbone = trunk()
        self.classifier = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.classifier(self.backbone(batch[0]).mean((2, 3))), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class LookingByItself(Looking):
    """The same, with the attention loss in its own step."""

    def __init__(self):
        super().__init__()
        self.attention = AttentionLoss(layer="layer4")
        self.classifier[1] = HeadNorm(8)

    def training_step(self, batch, batch_idx):
        images, labels, masks = batch
        with self.attention.tap(self.backbone) as activations:
            logits = self.classifier(self.backbone(images).mean((2, 3)))
        score = logits.gather(1, labels[:, None])[:, 0]
        attention = self.attention(score, activations, masks)
        return self.attention.combine(F.cross_entropy(logits, labels), attention.loss)


def labelled(count=8):
    return [(torch.randn(3, *SIZE), torch.tensor(i % 3), (torch.rand(1, *SIZE) > 0.5).byte()) for i in range(count)]


def guided(**changed):
    return AttentionSupervision(**{"embedding": "classifier", "target": LabelLogit(1), "mask": 2, **changed})


def test_classifier_equals_manual_step():
    by_itself = LookingByItself()
    from_outside = Looking()
    from_outside.load_state_dict(by_itself.state_dict())
    made = [(images.double(), labels, masks) for images, labels, masks in labelled()]
    found, wanted = (
        fit(module, made, *callbacks, batch_size=8, precision="64-true")[1].gradients
        for module, callbacks in ((from_outside, [guided()]), (by_itself, []))
    )
    same(found, wanted, str)


def test_module_is_restored():
    module = Looking()
    seen = []

    class During(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append(("training_step" in vars(pl_module), type(pl_module.classifier[1])))

    def untouched():
        hooks = sum(len(part._forward_hooks) for part in module.modules())
        return "training_step" not in vars(module) and type(module.classifier[1]) is nn.BatchNorm1d and hooks == 0

    fit(module, labelled(), guided(), During())
    assert seen == [(True, HeadNorm)] * 2
    assert untouched()

    with pytest.raises(InputError, match="'missing'"):
        fit(module, labelled(), guided(mask="missing"))
    assert untouched()


def test_cams_are_independent():
    """Also with batch norm in the head: an image's CAM does not depend on the others' scores."""
    module, cams = Looking(), []
    made = labelled(6)

    class Only(LabelLogit):
        """The scores of the first images alone."""

        def __init__(self, count):
            super().__init__(1)
            self.count = count

        def __call__(self, pl_module, batch, embedding):
            keep = torch.arange(6) < self.count
            return super().__call__(pl_module, batch, embedding) * keep

    for count in (1, 6):
        callback = guided(target=Only(count), weight=0)
        callback.attention.register_forward_hook(lambda part, inputs, output: cams.append(output.cam))
        fit(copy.deepcopy(module), made, callback, batch_size=6)
    assert float(cams[0][0].max()) > 0
    assert torch.allclose(cams[0][0], cams[1][0], atol=1e-6)
    assert not torch.allclose(cams[0][1], cams[1][1])


def test_both_views_in_one_pass():
    """As SimCLR is often written; mask and target then cover both views."""

    class Both(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = trunk(), nn.Linear(6, 4)

        def embed(self, images):
            return self.head(self.backbone(images).mean((2, 3)))

        def training_step(self, batch, batch_idx):
            z = F.normalize(self.embed(torch.cat([batch["query"], batch["key"]])), dim=1)
            similarity = (z @ z.T / 0.2).fill_diagonal_(-torch.inf)
            return F.cross_entropy(similarity, torch.arange(len(z)).roll(len(z) // 2))

        configure_optimizers = Theirs.configure_optimizers

    target = MaskedKey(
        "embed",
        images=lambda batch: torch.cat([batch["key"], batch["query"]]),
        mask=lambda batch: torch.cat([batch["key_mask"], batch["query_mask"]]),
    )
    callback = AttentionSupervision(
        embedding="head", target=target, mask=lambda batch: torch.cat([batch["query_mask"], batch["key_mask"]])
    )
    made = samples(6)
    trainer, watch = fit(Both(), made, callback, batch_size=6)
    shown = torch.stack([has_object(sample["query_mask"][None] * sample["key_mask"].amax())[0] for sample in made])
    assert trainer.callback_metrics["train/empty_masks"] == pytest.approx(1 - float(shown.float().mean()))
    assert watch.attention[0] > 0


def test_default_score():
    module, made = Theirs(method()), renamed(samples(6))
    explicit = supervision(embedding=None, target=MaskedKey("net", "b", "b_seg"))
    by_default = [
        {**sample, "query_mask": sample["a_seg"], "key_mask": sample["b_seg"], "key": sample["b"]} for sample in made
    ]
    first = fit(copy.deepcopy(module), made, explicit, batch_size=6)[1]
    second = fit(copy.deepcopy(module), by_default, AttentionSupervision(encoder="net"), batch_size=6)[1]
    same(second.gradients, first.gradients, str)


def test_training_lowers_attention_loss():
    made = samples(8)
    for sample in made:  # All objects at the same position, which even this network can learn.
        for name in ("query", "key"):
            sample[f"{name}_mask"].zero_()[:, :6, :8] = 1
            sample[name][:, :6, :8] += 3
    _, watch = fit(Theirs(method()), renamed(made), supervision(), batch_size=8, max_epochs=40)
    assert len(watch.attention) == 40
    assert watch.attention[-1] < 0.7 * watch.attention[0]


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision_step_direction(precision):
    start, made = Theirs(method()), renamed(samples(12))
    half = [
        {n: x.bfloat16() if x.is_floating_point() and "true" in precision else x for n, x in s.items()} for s in made
    ]
    whole, found = (
        torch.cat(
            [
                g.flatten().float()
                for g in fit(copy.deepcopy(start), batch, supervision(), **settings)[1].gradients.values()
            ]
        )
        for batch, settings in ((made, {"batch_size": 12}), (half, {"batch_size": 12, "precision": precision}))
    )
    assert F.cosine_similarity(whole, found, dim=0) > 0.97


def test_gradient_scaler():
    """As for float16 on a GPU: the scale must not shift the weight between the module's loss and the attention's."""
    start, made = Theirs(method()), renamed(samples(12))
    scaling = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
    whole, found = (
        fit(copy.deepcopy(start), made, supervision(), batch_size=12, **settings)[1].gradients
        for settings in ({}, {"plugins": [scaling]})
    )
    for name, gradient in whole.items():
        assert float((found[name] - gradient).norm() / gradient.norm()) < 0.1, name


def test_resumed_run_is_equal(tmp_path):
    start, made = Theirs(method()), renamed(samples(8))
    unbroken = copy.deepcopy(start)
    fit(unbroken, made, supervision(), max_epochs=4)
    first, second = copy.deepcopy(start), copy.deepcopy(start)
    trainer, _ = fit(first, made, supervision(), max_epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)
    assert list(saved["state_dict"]) == list(start.state_dict())
    fit(second, made, supervision(), max_epochs=4, ckpt_path=tmp_path / "half.ckpt")
    for name, tensor in unbroken.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert not torch.equal(first.net.conv1.weight, second.net.conv1.weight)


class Broken(Theirs):
    def __init__(self, method, returned):
        super().__init__(method)
        self.returned = returned

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return {None: None, "extra": {"extra": loss}, "twice": loss}[self.returned]


class Detached:
    def __call__(self, pl_module, batch, embedding):
        return embedding.detach().sum(1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder": "nett"}, r"encoder='nett': .*did you mean 'net'"),
        ({"layer": "layer5"}, r"no layer 'layer5' \(did you mean 'layer4'"),
        ({"embedding": "projektor"}, r"embedding='projektor': .*did you mean 'projector'"),
        ({"mask": "query_mask"}, r"mask: the batch, a dictionary of 'a', .*, has no 'query_mask'"),
        ({"mask": lambda batch: None}, r"mask must be a tensor, got NoneType"),
        ({"mask": lambda batch: batch["a_seg"][:2]}, r"mask must be \(4, 1, H, W\), .* got \(2, 1, 12, 16\)"),
        ({"target": Detached()}, "target gives scores without a graph"),
        ({"target": lambda module, batch, embedding: embedding.sum()}, r"one score for each of the 4 images .* \(4,\)"),
        ({"target": MaskedKey("fast", "b", "b_seg")}, "Theirs has no 'fast'"),
        ({"target": MaskedKey("slow_net", "b", "b_seg")}, r"embedding is \(4, 4\), the masked key's \(4, 6\)"),
        ({"target": LabelLogit("b")}, r"needs logits \(N, classes\) and labels"),
        ({"forward_pass": 1}, r"forward_pass=1: .* only 1 times"),
        ({"encoder": "slow_net", "embedding": "projector"}, "its output has no graph"),
    ],
)
def test_one_line_errors(changed, message):
    with pytest.raises(InputError, match=message) as error:
        fit(Theirs(method()), renamed(samples(4)), supervision(**changed))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("returned", "message"), [(None, "returned None"), ("extra", "returned no loss")])
def test_step_must_return_loss(returned, message):
    with pytest.raises(InputError, match=rf"Broken.training_step {message}"):
        fit(Broken(method(), returned), renamed(samples(4)), supervision())


def test_unsupported_modules():
    with pytest.raises(InputError, match="one AttentionSupervision"):
        fit(Theirs(method()), renamed(samples(4)), supervision(), supervision())
    by_hand = Theirs(method())
    by_hand.automatic_optimization = False
    with pytest.raises(InputError, match="Theirs uses manual optimisation"):
        fit(by_hand, renamed(samples(4)), supervision())
    with pytest.raises(InputError, match="target must be a function"):
        supervision(target="logit")
    with pytest.raises(InputError, match="Theirs is compiled"):
        fit(torch.compile(Theirs(method())), renamed(samples(4)), supervision())


class Copied(pl.Callback):
    """Copies and pickles the module while it is supervised."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        # A copy of the trainer is not wanted.
        pl_module._trainer, theirs = None, pl_module._trainer
        self.copies = [copy.deepcopy(pl_module), pickle.loads(pickle.dumps(pl_module))]
        pl_module._trainer = theirs


def test_copies_have_their_own_step():
    made, copied = renamed(samples()), Copied()
    fit(Theirs(method()), made, supervision(), copied)
    for each in copied.copies:
        assert each.training_step.__self__ is each
        before = copy.deepcopy(each.projector.state_dict())
        fit(each, made)
        assert any(not torch.equal(before[name], value) for name, value in each.projector.state_dict().items())


class Validating(Theirs):
    """A validation step that calls the training step, as many do for a validation loss."""

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.training_step(batch, batch_idx))


def test_validation_that_calls_the_training_step():
    made = renamed(samples())
    trainer, _ = fit(Validating(method()), made, supervision(), validation=made)
    assert {"val/loss", "train/attention"} <= trainer.callback_metrics.keys()


def test_compiled_part_elsewhere():
    """A part that neither the query nor its CAM passes through may be compiled."""
    theirs = Theirs(method())
    theirs.teacher = torch.compile(nn.Linear(2, 2))
    fit(theirs, renamed(samples()), supervision())
    theirs.net = torch.compile(theirs.net)
    with pytest.raises(InputError, match=r"encoder='net': .*is compiled by torch\.compile"):
        fit(theirs, renamed(samples()), supervision())
