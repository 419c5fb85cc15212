import colorsys
import itertools

import cv2
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import functional as F

from castlit.data.scenes import Scenes
from castlit.data.transforms.colour_ops import blur_kernel
from castlit.data.transforms.device_photometric import apply_draws
from castlit.data.transforms.photometric import DRAWS, FACTORS, GREY, ORDER, PRESETS, SIGMA, ColourView
from castlit.utils.validation import InputError

COUNT = 48
NOTHING = np.array([1, 1, 1, 0, 0, 1, 2, 3, 0, 0], np.float32)
OFF = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "grey_p": 0.0, "blur_p": 0.0}


@pytest.fixture(scope="module")
def pictures():
    """Scenes; scenes with grain like a photograph's; and saturated noise. (COUNT, 64, 64, 3) each."""
    rng = np.random.default_rng(0)
    scenes = Scenes(COUNT, size=64, seed=2).images
    grain = np.clip(scenes + rng.normal(0, 12, scenes.shape), 0, 255).astype(np.uint8)
    return {"scenes": scenes, "grain": grain, "saturated": rng.choice([0, 40, 215, 255], scenes.shape).astype(np.uint8)}


def on_device(images, draws, view, dtype=torch.uint8):
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).to(dtype)
    return apply_draws(batch, torch.from_numpy(draws), view).permute(0, 2, 3, 1).numpy()


def draws_of(view, count=COUNT, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([view.draw(rng) for _ in range(count)])


def repeated(count=COUNT, **changes):
    """Identity draws, with changes of some columns."""
    draws = np.tile(NOTHING, (count, 1))
    factors = {name: FACTORS.start + k for k, name in enumerate(("brightness", "contrast", "saturation", "hue"))}
    columns = {**factors, "order": ORDER, "grey": GREY, "sigma": SIGMA}
    for name, value in changes.items():
        draws[:, columns[name]] = value
    return draws


class TestAgainstTheCPU:
    @pytest.mark.parametrize("kind", ["scenes", "grain", "saturated"])
    @pytest.mark.parametrize(
        "view",
        [
            ColourView(**{**OFF, "brightness": 0.4}, jitter_p=1),
            ColourView(**{**OFF, "contrast": 0.4}, jitter_p=1),
            ColourView(**{**OFF, "saturation": 0.4}, jitter_p=1),
            ColourView(**{**OFF, "hue": 0.1}, jitter_p=1),
            ColourView(**{**OFF, "hue": 0.5}, jitter_p=1),
            ColourView(**{**OFF, "grey_p": 0.5}, jitter_p=0),
            ColourView(**{**OFF, "blur_p": 1.0}, jitter_p=0),
            ColourView(**{**OFF, "blur_p": 1.0}, jitter_p=0, blur_sigma=(3.0, 6.0)),
            ColourView(jitter_p=1, grey_p=0, blur_p=1),
            PRESETS["moco_v1"],
            PRESETS["moco_v2"],
        ],
    )
    def test_same_draws_give_same_images(self, pictures, kind, view):
        images, draws = pictures[kind], draws_of(view)
        expected = np.stack([view.apply(image, draw) for image, draw in zip(images, draws, strict=True)])
        error = np.abs(on_device(images, draws, view) - expected)
        assert error.mean() < 0.6
        assert error.mean(axis=(1, 2, 3)).max() < 1
        assert np.quantile(error, 0.999) < 3

    def test_mean_hue(self, pictures):
        """CPU and device shift the mean hue equally, in both directions and across red."""
        view = ColourView(jitter_p=1)
        for shift in (-0.5, -0.4, -0.1, -0.02, 0.02, 0.1, 0.25, 0.4):
            draws = repeated(hue=shift)
            there = on_device(pictures["scenes"], draws, view).mean(axis=(1, 2))
            here = np.stack([view.apply(image, draws[0]) for image in pictures["scenes"]]).mean(axis=(1, 2))
            assert np.abs(there - here).max() < 0.5  # all pixels of a plain background round the same way
            assert np.abs((there - here).mean(axis=0)).max() < 0.1


class TestDefinitions:
    def test_jitter_matches_torchvision(self, pictures):
        orders = list(itertools.permutations(range(4)))
        rng = np.random.default_rng(3)
        for kind in ("grain", "saturated"):
            images = pictures[kind][:24]
            draws = repeated(24, order=np.array(orders))
            draws[:, :3], draws[:, 3] = rng.uniform(0.5, 1.5, (24, 3)), rng.uniform(-0.5, 0.5, 24)
            result = on_device(images, draws, ColourView())
            operations = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
            for image, draw, order, made in zip(images, draws, orders, result, strict=True):
                expected = torch.from_numpy(image).permute(2, 0, 1).double() / 255
                for k in order:
                    expected = operations[k](expected, float(draw[k]))
                # 0.2: torchvision's weights of the grey level sum to 0.9999
                assert np.abs(made - 255 * expected.permute(1, 2, 0).numpy()).max() < 0.2

    def test_hue_shifts(self):
        hues = np.arange(0, 1, 1 / 48)
        shifts = np.linspace(-0.5, 0.5, COUNT)
        colours = np.array([colorsys.hsv_to_rgb(hue, 0.7, 0.8) for hue in hues])[None] * 255
        batch = torch.from_numpy(np.tile(colours, (COUNT, 1, 1))).permute(0, 2, 1)[:, :, None]
        result = apply_draws(batch, torch.from_numpy(repeated(hue=shifts)), ColourView())
        turned = np.array([[colorsys.hsv_to_rgb((h + s) % 1, 0.7, 0.8) for h in hues] for s in shifts]) * 255
        assert np.abs(result[:, :, 0].permute(0, 2, 1).numpy() - turned).max() < 0.01

    def test_blur_kernels_match_the_cpu(self):
        sigmas = np.array([0.0, 0.1, 0.3, 0.9, 1.4, 1.42, 1.8, 2.0])
        images = np.zeros((8, 31, 35, 3), np.uint8)
        images[:, 15, 17] = 255
        result = on_device(images, repeated(8, sigma=sigmas), ColourView()) / 255
        assert np.abs(result[0] * 255 - images[0]).max() < 1e-3
        for sigma, made in zip(sigmas[1:], result[1:], strict=True):
            kernel = blur_kernel(sigma)
            kernel = np.pad(kernel, 8 - len(kernel) // 2)
            expected = np.outer(kernel, kernel)
            assert np.abs(made[7:24, 9:26, 1] - expected).max() < 1e-3
            assert made.sum() == pytest.approx(3, abs=1e-4)

    def test_blur_replicates_the_edge(self, pictures):
        # kernels wider than the image too
        images = pictures["grain"][:, :3, :5].copy()
        view = ColourView(blur_sigma=(4.0, 4.0))
        expected = [
            cv2.sepFilter2D(i.astype(float), -1, blur_kernel(4), blur_kernel(4), borderType=cv2.BORDER_REPLICATE)
            for i in images
        ]
        assert np.abs(on_device(images, repeated(sigma=4.0), view) - expected).max() < 0.5

    def test_grey(self, pictures):
        images = pictures["saturated"]
        grey = on_device(images, repeated(grey=np.arange(COUNT) % 2), ColourView())
        assert np.abs(grey[::2] - images[::2]).max() < 1e-3
        assert np.abs(grey[1::2] - (images[1::2] @ (0.299, 0.587, 0.114))[..., None]).max() < 1e-3

    def test_grey_first(self, pictures):
        images, draws = pictures["saturated"], repeated(grey=1, brightness=2)
        weights = (0.299, 0.587, 0.114)
        last = np.minimum(2.0 * images, 255) @ weights
        first = np.minimum(2.0 * (images @ weights), 255)
        assert np.abs(on_device(images, draws, ColourView())[..., 0] - last).max() < 1e-3
        assert np.abs(on_device(images, draws, ColourView(grey_first=True))[..., 2] - first).max() < 1e-3


class TestBatches:
    def test_images_are_independent(self, pictures):
        view = ColourView()
        draws = draws_of(view)
        whole = on_device(pictures["grain"], draws, view)
        for i in range(0, COUNT, 5):
            alone = on_device(pictures["grain"][i : i + 1], draws[i : i + 1], view)
            assert np.abs(whole[i] - alone[0]).max() < 1e-2

    @pytest.mark.parametrize("name", ["moco_v1", "moco_v2"])
    def test_dtype_and_memory_format(self, pictures, name):
        view = PRESETS[name]
        draws = torch.from_numpy(draws_of(view))
        last = torch.from_numpy(pictures["grain"][:, :50].copy()).permute(0, 3, 1, 2)
        first = last.contiguous()
        results = []
        for images in (first, last, first.float(), last.float(), first.double()):
            before = images.clone()
            results.append(apply_draws(images, draws, view))
            assert torch.equal(images, before)
            assert results[-1].dtype == torch.float32
            assert results[-1].stride() == images.stride()
            assert torch.equal(results[-1], results[0])
        assert results[0].min() > -1e-3
        assert results[0].max() < 255.001

    def test_identity_gives_new_images(self, pictures):
        images = torch.from_numpy(pictures["grain"]).permute(0, 3, 1, 2).float()
        draws = torch.from_numpy(repeated())
        for view in (ColourView(**OFF, jitter_p=0), ColourView()):
            result = apply_draws(images, draws, view)
            assert torch.allclose(result, images, atol=1e-3)
            result.zero_()
            assert images.max() > 0

    @pytest.mark.parametrize(
        ("images", "draws"), [((2, 1, 8, 8), (2, DRAWS)), ((2, 3, 8), (2, DRAWS)), ((2, 3, 8, 8), (3, DRAWS))]
    )
    def test_wrong_shapes(self, images, draws):
        with pytest.raises(InputError, match=r"expected images \(N, 3, H, W\) and draws"):
            apply_draws(torch.zeros(images), torch.zeros(draws), ColourView())


class MetaOnly(TorchDispatchMode):
    """Fails if a tensor of another device than meta is used: meta tensors have no values that the host could read."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in (result, *args):
            if isinstance(x, torch.Tensor):
                assert x.device.type == "meta", f"{function} uses the host"
        return result


class TestAsynchronous:
    @pytest.mark.parametrize("name", ["moco_v1", "moco_v2"])
    def test_no_transfer_to_the_host(self, name, monkeypatch):
        images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8, device="meta")
        draws = torch.zeros(4, DRAWS, device="meta")
        for maker in ("tensor", "as_tensor", "from_numpy"):
            monkeypatch.delattr(torch, maker)
        with MetaOnly():
            result = apply_draws(images, draws, PRESETS[name])
        assert result.shape == images.shape

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine")
    @pytest.mark.parametrize("name", ["moco_v1", "moco_v2"])
    def test_on_a_gpu(self, pictures, name):
        view = PRESETS[name]
        images, draws = pictures["grain"], draws_of(view)
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).cuda()
        choices = torch.from_numpy(draws).cuda()
        apply_draws(batch, choices, view)
        torch.cuda.set_sync_debug_mode("error")
        try:
            result = apply_draws(batch, choices, view)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        # TF32 keeps 11 bits
        assert np.abs(result.permute(0, 2, 3, 1).cpu().numpy() - on_device(images, draws, view)).max() < 0.5
