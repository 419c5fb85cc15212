"""CAST's attention loss for someone else's LightningModule, whose code stays as it is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

import pytorch_lightning as pl
from torch import Tensor, nn

from castlit.attention import Activations, AttentionLoss, find_layer
from castlit.callbacks.scores import MaskedKey, Part, Score, part_of, shape_of
from castlit.module.metrics import step_figures
from castlit.module.ranks import synchronise_for_cams
from castlit.nn.head_norm import borrow_head_norms
from castlit.utils.validation import InputError, require_int


class _Recorded(NamedTuple):
    activations: Sequence[Activations]
    outputs: list[Any]


class AttentionSupervision(pl.Callback):
    """Adds CAST's attention loss to the training of any LightningModule.

    While the module's own ``training_step`` runs, the output of ``layer`` is recorded. From it and a score, Grad-CAM
    says where the encoder looks, and ``weight`` times the attention loss is added to the loss that the step returns,
    before the one backward pass: gradient accumulation, mixed precision, clipping and DDP treat the sum as they treat
    the loss. Logs ``train/attention``, ``train/pointing`` and ``train/empty_masks``, as :class:`castlit.CASTModule`.

    The module must leave optimisation to Lightning, return its loss (alone, or as ``"loss"`` in a dictionary), and not
    be compiled: torch.compile does not differentiate twice. For the time of the fit, its ``BatchNorm1d`` layers are
    :class:`castlit.nn.HeadNorm`, which compute the same: an image's CAM would otherwise depend on the others in its
    batch. Under mixed precision the CAM is as exact as what lies behind ``layer`` runs: keep the heads out of autocast
    if you can, as castlit's own are. Nothing of it enters a checkpoint; give the callback again to resume.

    Args:
        encoder: Name of the part of the module that holds the layer. None: the module itself.
        layer: Name of the layer inside the encoder, or several: then the loss is the mean of theirs. None: the last one
            that gives a feature map.
        target: What is explained: a function of module, batch and the query's embedding to scores (N,), with graph;
            :class:`castlit.callbacks.LabelLogit` and :class:`castlit.callbacks.MaskedKey` are ready-made. If it has a
            method ``takes_part``, images for which ``takes_part(batch)``, (N,), is false count as without a mask. None:
            the cosine to the masked key under the encoder itself, ``MaskedKey(embed=encoder)``.
        weight: λ ≥ 0. With 0 the loss is measured, but not trained.
        embedding: Name of the part of the module that gives the query's embedding, or a classifier's logits. None: the
            encoder.
        mask: Which part of the batch are the masks of the images that the tapped pass saw, (N, 1, H, W), nonzero on the
            objects.
        forward_pass: Which pass of a step through the encoder is the query's; by convention the first, 0. The same
            holds for ``embedding``. Where both views go through in one batch, let ``mask`` and ``target`` be functions
            that give 2 N of each.
        mode: As in :class:`castlit.attention.AttentionLoss`.

    Raises:
        InputError: An argument is out of range; or, when the fit starts, the module has no such part.

    Example:
        >>> supervision = AttentionSupervision(
        ...     encoder="backbone",
        ...     layer="layer4",
        ...     embedding="projection_head",
        ...     target=MaskedKey("forward_momentum"),  # embeds the key under its mask
        ...     mask="query_mask",
        ... )
        >>> pl.Trainer(callbacks=[supervision]).fit(their_module, loader)
    """

    def __init__(
        self,
        encoder: str | None = "backbone",
        layer: str | Sequence[str] | None = "layer4",
        target: Score | None = None,
        weight: float = 3.0,
        *,
        embedding: str | None = None,
        mask: Part = "query_mask",
        forward_pass: int = 0,
        mode: str = "paper",
    ) -> None:
        self.attention = AttentionLoss(layer=layer, weight=weight, mode=mode)
        if target is not None and not callable(target):
            raise InputError(
                "target must be a function of module, batch and embedding, such as castlit.callbacks.MaskedKey(...) or "
                f"LabelLogit(); got {target!r}"
            )
        self.encoder, self.embedding, self.mask = encoder, embedding, mask
        self.target: Score = MaskedKey(encoder or "__call__") if target is None else target
        self.forward_pass = require_int("forward_pass", forward_pass, low=0)
        self._undo: Callable[[], None] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stand in for the module's training step, and prepare its batch norms before DDP synchronises them.

        The training step is the one place where a loss can be added that everything else takes for the module's own. It
        is inside autocast; inside DDP's forward pass, which Lightning leads back to ``training_step`` by that name; and
        before Lightning divides the loss by the number of accumulated batches, scales it for float16 and starts the one
        backward pass. Callback hooks run outside of all that: a backward pass of our own in ``on_before_backward``
        would miss the scale, and DDP would take its gradients for the step's.
        """
        self._take_out()
        if stage != "fit":
            return
        self._check(trainer, pl_module)
        synchronise_for_cams(trainer)
        give_norms_back = borrow_head_norms(pl_module)
        plain, its_own = pl_module.training_step, vars(pl_module).get("training_step")

        @wraps(plain)  # Lightning reads the signature
        def training_step(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            with self._recording(pl_module) as recorded:
                output = plain(*arguments, **named)
            batch = arguments[0] if arguments else next(iter(named.values()))
            return self._add(pl_module, batch, recorded, output)

        def undo() -> None:
            give_norms_back()
            del pl_module.training_step
            if its_own is not None:
                pl_module.training_step = its_own  # type: ignore[method-assign]

        pl_module.training_step = training_step  # type: ignore[method-assign]
        self._undo = undo

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the module as it was."""
        self._take_out()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the module as it was."""
        self._take_out()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the module as it was."""
        self._take_out()

    def _take_out(self) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None

    def _check(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if sum(isinstance(callback, AttentionSupervision) for callback in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            raise InputError("one AttentionSupervision for each trainer: give it several layers, or one target for all")
        name = type(pl_module).__name__
        if not pl_module.automatic_optimization:
            raise InputError(
                f"{name} optimises by hand: use castlit.attention.AttentionLoss inside its training_step instead"
            )
        if getattr(pl_module, "_compiler_ctx", None) is not None:
            raise InputError(f"{name} is compiled, and torch.compile does not differentiate twice: do not compile it")
        self.attention.find_layers(self._encoder(pl_module))
        self._embedding(pl_module)

    def _encoder(self, pl_module: pl.LightningModule) -> nn.Module:
        return pl_module if self.encoder is None else _part(pl_module, self.encoder, "encoder")

    def _embedding(self, pl_module: pl.LightningModule) -> nn.Module:
        return self._encoder(pl_module) if self.embedding is None else _part(pl_module, self.embedding, "embedding")

    @contextmanager
    def _recording(self, pl_module: pl.LightningModule) -> Iterator[_Recorded]:
        outputs: list[Any] = []
        # Only while the module's own step runs: what the target runs is none of it.
        handle = self._embedding(pl_module).register_forward_hook(lambda part, inputs, output: outputs.append(output))
        try:
            with self.attention.tap(self._encoder(pl_module)) as activations:
                yield _Recorded(activations, outputs)
        finally:
            handle.remove()

    def _add(self, pl_module: pl.LightningModule, batch: Any, recorded: _Recorded, output: Any) -> Any:  # noqa: ANN401
        """Add the attention loss to what the training step returned, and log it."""
        loss = _loss_of(output, type(pl_module).__name__)
        number = self.forward_pass
        for passes in (*recorded.activations, recorded.outputs):
            if len(passes) <= number:
                raise InputError(
                    f"forward_pass={number}: training_step ran the encoder's layer or the embedding only {len(passes)} "
                    "times: name parts that the query goes through"
                )
        maps = [passes[number] for passes in recorded.activations]
        embedding = recorded.outputs[number]
        mask = self._masks(batch, len(maps[0]))
        score = self.target(pl_module, batch, embedding)
        _check_graphs(score, maps)
        attention = self.attention(score, maps, mask)
        figures = step_figures({"attention": attention.loss}, attention.cam, mask)
        for name, value in figures.items():
            pl_module.log(f"train/{name}", value, prog_bar=name != "empty_masks", batch_size=len(mask))
        total = self.attention.combine(loss, attention.loss)
        return {**output, "loss": total} if isinstance(output, Mapping) else total

    def _masks(self, batch: Any, count: int) -> Tensor:  # noqa: ANN401
        """The masks of the images that the layer saw, empty for those that take no part."""
        mask = part_of(batch, self.mask, "mask")
        if mask.dim() != 4 or mask.shape[:2] != (count, 1):
            raise InputError(
                f"mask must be ({count}, 1, H, W), a mask for each image that the layer saw, got {tuple(mask.shape)}"
            )
        takes_part = getattr(self.target, "takes_part", None)
        if takes_part is None:
            return mask
        shown: Tensor = mask * takes_part(batch).reshape(count, 1, 1, 1)
        return shown


def _check_graphs(score: object, maps: Sequence[Tensor]) -> None:
    count = len(maps[0])
    if not isinstance(score, Tensor) or score.shape != (count,):
        raise InputError(
            f"target must give one score for each of the {count} images that the layer saw, ({count},), got "
            f"{shape_of(score)}"
        )
    if not score.requires_grad:
        raise InputError(
            "target gives scores without a graph: make them of the embedding it is called with, without detach() or "
            "torch.no_grad()"
        )
    if not all(each.requires_grad for each in maps):
        raise InputError("layer: its output has no graph: nothing before it is trained, or it ran under no_grad()")


def _part(pl_module: pl.LightningModule, name: str, argument: str) -> nn.Module:
    try:
        return find_layer(pl_module, name)
    except InputError as error:
        raise InputError(f"{argument}={name!r}: {error}") from None


def _loss_of(output: object, name: str) -> Tensor:
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if not isinstance(loss, Tensor):
        raise InputError(
            f"{name}.training_step returned {'no loss' if isinstance(output, Mapping) else repr(output)}: "
            "AttentionSupervision needs a loss tensor, or a dictionary with one as 'loss', from every batch"
        )
    return loss
