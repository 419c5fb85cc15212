"""CAST's attention loss for any LightningModule, without changes to its code."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import update_wrapper
from typing import Any, NamedTuple

from torch import Tensor, nn

from castlit.attention import Activations, AttentionLoss
from castlit.attention.hooks import find_part, require_eager
from castlit.callbacks.scores import MaskedKey, Part, Score, part_of, shape_of
from castlit.module.metrics import step_metrics
from castlit.module.ranks import synchronise_for_cams
from castlit.nn.head_norm import borrow_head_norms
from castlit.utils.bar_metrics import log_and_show
from castlit.utils.lightning import pl
from castlit.utils.validation import InputError, require_int


class _Recorded(NamedTuple):
    activations: Sequence[Activations]
    outputs: list[Any]


class AttentionSupervision(pl.Callback):
    """Adds CAST's attention loss to the training of any LightningModule.

    The callback records the output of ``layer`` while the module's own ``training_step`` runs, computes the Grad-CAM of
    a score, and adds ``weight`` times the attention loss to the loss that the step returns. There is one backward pass
    of the sum, so gradient accumulation, mixed precision, clipping and DDP apply to it as to the loss. Logs
    ``train/attention``, ``train/pointing`` and ``train/empty_masks``, as :class:`castlit.CASTModule`.

    The module must use automatic optimisation, return its loss (alone, or as ``"loss"`` in a dictionary), and not be
    compiled: torch.compile does not differentiate twice. For the time of the fit, its ``BatchNorm1d`` layers are
    :class:`castlit.nn.HeadNorm`, which compute the same: an image's CAM would otherwise depend on the others in its
    batch. Under mixed precision the CAM has the precision of the layers behind ``layer``: keep the heads out of
    autocast if you can, as castlit's own are. Checkpoints do not contain the callback; pass it again to resume.

    Args:
        encoder: Name of the part of the module that contains the layer. None: the module itself.
        layer: Name of the layer inside the encoder, or several: then the loss is the mean of theirs. None: the last
            layer whose output is a feature map.
        target: The score that the CAM explains: a function of module, batch and the query's embedding to scores (N,),
            with graph, such as :class:`castlit.callbacks.LabelLogit` and :class:`castlit.callbacks.MaskedKey`. If it
            has a method ``takes_part``, images for which ``takes_part(batch)``, (N,), is false count as without a mask.
            None: the cosine to the masked key under the encoder itself, ``MaskedKey(embed=encoder)``.
        weight: λ ≥ 0. With 0 the loss is measured, but not trained.
        embedding: Name of the part of the module whose output is the query's embedding, or a classifier's logits. None:
            the encoder.
        mask: The part of the batch with the masks of the images in the recorded pass, (N, 1, H, W), nonzero on the
            objects.
        forward_pass: Number of the query's pass through the encoder within a step; by convention the first, 0. The same
            number applies to ``embedding``. If both views are in one batch, ``mask`` and ``target`` must be functions
            that return 2 N of each.
        mode: As in :class:`castlit.attention.AttentionLoss`.
        cam: As there.

    Raises:
        InputError: An argument is out of range; or, at the start of the fit, the module has no such part.

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
        cam: str = "rectified",
    ) -> None:
        self.attention = AttentionLoss(layer=layer, weight=weight, mode=mode, cam=cam)
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
        """Replace the module's training step, and prepare its batch norms before DDP synchronises them.

        A loss that is added inside the training step is treated as the module's own: the step runs under autocast and
        inside DDP's forward pass, which calls ``training_step`` by that name, and before Lightning divides the loss by
        the number of accumulated batches, scales it for float16 and starts the one backward pass. Callback hooks run
        outside of this: a second backward pass in ``on_before_backward`` would miss the scale, and DDP would take its
        gradients for the step's.
        """
        self._restore()
        if stage != "fit":
            return
        self._check(trainer, pl_module)
        synchronise_for_cams(trainer)
        restore_norms = borrow_head_norms(pl_module)
        on_instance = vars(pl_module).get("training_step")

        def undo() -> None:
            restore_norms()
            del pl_module.training_step
            if on_instance is not None:
                pl_module.training_step = on_instance  # type: ignore[method-assign]

        pl_module.training_step = _SupervisedStep(self, pl_module)  # type: ignore[method-assign]
        self._undo = undo

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the module."""
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the module."""
        self._restore()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the module."""
        self._restore()

    def _restore(self) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None

    def _check(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if sum(isinstance(callback, AttentionSupervision) for callback in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            raise InputError("a trainer takes one AttentionSupervision: give it several layers, or one target for all")
        name = type(pl_module).__name__
        if not pl_module.automatic_optimization:
            raise InputError(
                f"{name} uses manual optimisation: use castlit.attention.AttentionLoss inside its training_step instead"
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
        # Only while the module's own step runs: the target's passes must not be recorded.
        handle = self._embedding(pl_module).register_forward_hook(lambda part, inputs, output: outputs.append(output))
        try:
            with self.attention.tap(self._encoder(pl_module)) as activations:
                yield _Recorded(activations, outputs)
        finally:
            handle.remove()

    def supervise(self, pl_module: pl.LightningModule, step: Callable[..., Any], *given: Any, **named: Any) -> Any:  # noqa: ANN401
        """Take the module's own training step, and add the attention loss to what it returns.

        Args:
            pl_module: The module.
            step: Its training step.
            given: What Lightning calls it with, the batch first.
            named: The same by name.
        """
        with self._recording(pl_module) as recorded:
            output = step(*given, **named)
        return self._add(pl_module, given[0] if given else next(iter(named.values())), recorded, output)

    def _add(self, pl_module: pl.LightningModule, batch: Any, recorded: _Recorded, output: Any) -> Any:  # noqa: ANN401
        """Add the attention loss to what the training step returned, and log it."""
        loss = _loss_of(output, type(pl_module).__name__)
        number = self.forward_pass
        for passes in (*recorded.activations, recorded.outputs):
            if len(passes) <= number:
                raise InputError(
                    f"forward_pass={number}: training_step ran the encoder's layer or the embedding only {len(passes)} "
                    "times: name parts that the query passes through"
                )
        maps = [passes[number] for passes in recorded.activations]
        embedding = recorded.outputs[number]
        mask = self._masks(batch, len(maps[0]))
        score = self.target(pl_module, batch, embedding)
        _check_graphs(score, maps)
        attention = self.attention(score, maps, mask)
        metrics = step_metrics({"attention": attention.loss}, attention.cam, mask)
        for name, value in metrics.items():
            if name == "empty_masks":
                pl_module.log(f"train/{name}", value, batch_size=len(mask))
            else:
                log_and_show(pl_module, f"train/{name}", value, len(mask))
        total = self.attention.combine(loss, attention.loss)
        return {**output, "loss": total} if isinstance(output, Mapping) else total

    def _masks(self, batch: Any, count: int) -> Tensor:  # noqa: ANN401
        """The masks of the images in the recorded pass, empty for those that the target leaves out."""
        mask = part_of(batch, self.mask, "mask")
        if mask.dim() != 4 or mask.shape[:2] != (count, 1):
            raise InputError(
                f"mask must be ({count}, 1, H, W), a mask for each image of the layer's input, got {tuple(mask.shape)}"
            )
        takes_part = getattr(self.target, "takes_part", None)
        if takes_part is None:
            return mask
        shown: Tensor = mask * takes_part(batch).reshape(count, 1, 1, 1)
        return shown


class _SupervisedStep:
    """The training step of a module under supervision. A copy of the module has the module's own step.

    Args:
        callback: The supervision.
        module: The module, with its own step.
    """

    def __init__(self, callback: AttentionSupervision, module: pl.LightningModule) -> None:
        self.callback, self.module, self.own = callback, module, module.training_step
        update_wrapper(self, self.own)  # Lightning reads the signature

    def __call__(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401
        if not self.module.trainer.training:  # a validation step that calls it
            return self.own(*given, **named)
        return self.callback.supervise(self.module, self.own, *given, **named)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:  # noqa: ANN401
        return copy.deepcopy(self.own, memo)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return getattr, (self.module, "training_step")


def _check_graphs(score: object, maps: Sequence[Tensor]) -> None:
    count = len(maps[0])
    if not isinstance(score, Tensor) or score.shape != (count,):
        raise InputError(
            f"target must give one score for each of the {count} images of the layer's input, ({count},), got "
            f"{shape_of(score)}"
        )
    if not score.requires_grad:
        raise InputError(
            "target gives scores without a graph: compute them from its argument embedding, without detach() or "
            "torch.no_grad()"
        )
    if not all(each.requires_grad for each in maps):
        raise InputError("layer: its output has no graph: no parameter before it is trained, or it ran under no_grad()")


def _part(pl_module: pl.LightningModule, name: str, argument: str) -> nn.Module:
    try:
        part = find_part(pl_module, name)
        require_eager(part)
        return part
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
