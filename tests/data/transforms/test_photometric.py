import itertools
import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import stats
from torchvision import transforms
from torchvision.transforms import functional as F

from castlit.data import TwoViews
from castlit.data.datamodules.sampler import sample_rng
from castlit.data.scenes import Scenes
from castlit.data.transforms.colour_ops import blur, blur_kernel, jitter, shift_hue, to_grey, to_rgb
from castlit.data.transforms.device_photometric import apply_draws
from castlit.data.transforms.photometric import DRAWS, FACTORS, GREY, ORDER, PRESETS, SIGMA, ColourView
from castlit.utils.validation import InputError

ORDERS = list(itertools.permutations(range(4)))


@pytest.fixture(scope="module")
def scenes():
    return Scenes(6, size=64, seed=5).images


@pytest.fixture(scope="module")
def saturated():
    return np.random.default_rng(0).choice([0, 40, 215, 255], (64, 64, 3)).astype(np.uint8)


def as_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1).double() / 255


def exact(image, factors, order):
    """torchvision's operations on a float image, without rounding."""
    operations = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    image = as_tensor(image)
    for k in order:
        image = operations[k](image, factors[k])
    return image.permute(1, 2, 0).numpy() * 255


class TestOperations:
    @pytest.mark.parametrize("factor", [0.0, 0.6, 0.93, 1.0, 1.4])
    @pytest.mark.parametrize("operation", [0, 1, 2])
    def test_jitter_matches_torchvision(self, scenes, saturated, operation, factor):
        theirs = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)[operation]
        factors = [1.0, 1.0, 1.0, 0.0]
        factors[operation] = factor
        for image in (*scenes, saturated):
            expected = np.asarray(theirs(Image.fromarray(image), factor)).astype(int)
            assert np.abs(jitter(image, factors, range(4)).astype(int) - expected).max() <= 1

    @pytest.mark.parametrize("shift", [-0.5, -0.4, -0.1, -0.01, 0.0, 0.03, 0.1, 0.4, 0.5])
    def test_hue_matches_torchvision(self, scenes, saturated, shift):
        for image in (*scenes, saturated):
            expected = F.adjust_hue(as_tensor(image), shift).permute(1, 2, 0).numpy() * 255
            assert np.abs(shift_hue(image, shift) - expected).max() < 0.51

    def test_jitter_in_any_order(self, scenes, saturated):
        rng = np.random.default_rng(0)
        for order in ORDERS:
            factors = [*rng.uniform(0.6, 1.4, 3), rng.uniform(-0.1, 0.1)]
            for image in (scenes[0], saturated):
                error = np.abs(jitter(image, factors, order) - exact(image, factors, order))
                assert error.mean() < 0.8  # four roundings, scaled by later factors
                assert error.max() < 6

    def test_jitter_of_grey(self, scenes):
        grey = to_grey(scenes[0])
        factors = (1.3, 0.7, 1.4, 0.3)
        for order in ORDERS:
            error = np.abs(to_rgb(jitter(grey, factors, order)) - exact(to_rgb(grey), factors, order))
            assert error.max() < 1.6

    def test_grey_matches_pillow(self, scenes, saturated):
        for image in (*scenes, saturated):
            expected = np.asarray(F.rgb_to_grayscale(Image.fromarray(image), 3)).astype(int)
            assert np.abs(to_rgb(to_grey(image)).astype(int) - expected).max() <= 1

    @pytest.mark.parametrize("sigma", [0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 1.41, 1.42, 1.7, 2.0, 3.3])
    def test_blur_matches_pillow(self, scenes, saturated, sigma):
        for image in (*scenes, saturated):
            expected = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma))).astype(int)
            error = np.abs(blur(image, sigma).astype(int) - expected)
            assert error.mean() < 1.2  # Pillow rounds six times
            assert error[8:-8, 8:-8].max() <= 4
        assert np.array_equal(blur(image, sigma)[..., 0], blur(np.ascontiguousarray(image[..., 0]), sigma))

    @pytest.mark.parametrize("sigma", [0.01, 0.1, 0.5, 1.0, 1.5, 2.0, 5.0])
    def test_blur_kernel_sigma(self, sigma):
        kernel = blur_kernel(sigma)
        offsets = np.arange(len(kernel)) - len(kernel) // 2
        assert len(kernel) % 2 == 1
        assert np.array_equal(kernel, kernel[::-1])
        assert kernel.sum() == pytest.approx(1)
        assert math.sqrt((kernel * offsets**2).sum()) == pytest.approx(sigma, rel=0.01, abs=0.02)


def many_draws(view, count=10000, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([view.draw(rng) for _ in range(count)])


class TestDraws:
    @pytest.mark.parametrize("name", ["moco_v1", "moco_v2"])
    def test_ranges_and_probabilities(self, name):
        view = PRESETS[name]
        draws = many_draws(view)
        assert draws.shape == (10000, DRAWS)
        assert draws.dtype == np.float32
        jittered = (draws[:, FACTORS] != (1, 1, 1, 0)).all(axis=1)
        assert np.array_equal(jittered, (draws[:, FACTORS] != (1, 1, 1, 0)).any(axis=1))
        blurred = draws[:, SIGMA] > 0
        hue = {"moco_v1": 0.4, "moco_v2": 0.1}[name]
        probabilities = {"moco_v1": (1.0, 0.2, 0.0), "moco_v2": (0.8, 0.2, 0.5)}[name]
        for happened, p in zip((jittered, draws[:, GREY] == 1, blurred), probabilities, strict=True):
            assert stats.binomtest(int(happened.sum()), len(draws), p).pvalue > 1e-3
        assert set(draws[:, GREY]) == {0, 1}
        for k in range(3):
            assert stats.kstest(draws[jittered, k], stats.uniform(0.6, 0.8).cdf).pvalue > 1e-3
        assert stats.kstest(draws[jittered, 3], stats.uniform(-hue, 2 * hue).cdf).pvalue > 1e-3
        assert np.abs(draws[:, 3]).max() <= hue + 1e-6
        if name == "moco_v2":
            assert stats.kstest(draws[blurred, SIGMA], stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3
        counts = [np.all(draws[:, ORDER] == order, axis=1).sum() for order in ORDERS]
        assert sum(counts) == len(draws)
        assert stats.chisquare(counts).pvalue > 1e-3

    def test_draws_are_uncorrelated(self):
        draws = many_draws(PRESETS["moco_v2"])
        happened = [draws[:, 0] != 1, draws[:, GREY], draws[:, SIGMA] > 0]
        assert worst_correlation(happened) < 0.04
        both = draws[(draws[:, 0] != 1) & (draws[:, SIGMA] > 0)]
        assert worst_correlation([*both[:, FACTORS].T, both[:, GREY], both[:, SIGMA], both[:, ORDER][:, 0]]) < 0.06

    def test_options_do_not_change_other_draws(self):
        usual = many_draws(ColourView(), 500)
        for change, columns in (
            ({"jitter_p": 0.0}, [GREY, SIGMA, 4, 5, 6, 7]),
            ({"grey_p": 0.9}, [0, 1, 2, 3, 4, 5, 6, 7, SIGMA]),
            ({"blur_p": 0.0}, range(SIGMA)),
            ({"hue": 0.0, "brightness": 0.9}, [1, 2, 4, 5, 6, 7, GREY, SIGMA]),
        ):
            assert np.array_equal(many_draws(ColourView(**change), 500)[:, columns], usual[:, columns])

    def test_flips_and_colours_are_uncorrelated(self):
        """With albumentations' Compose(seed=), all transforms share one seed, so that flip and grey correlate."""
        drawn = []

        def colours(image, rng):
            draw = PRESETS["moco_v2"].draw(rng)
            drawn.append((image[0, 0, 0] == 0, draw[0] != 1, draw[GREY], draw[SIGMA] > 0))
            return image

        image = np.zeros((8, 8, 3), np.uint8)
        image[:, :4] = 255
        views = TwoViews(8, scale=(1.0, 1.0), ratio=(1.0, 1.0), colours=colours)
        for i in range(10000):
            views(image, None, sample_rng(3, 1, i))
        happened = np.array(drawn, np.float64).reshape(10000, 8).T
        assert np.allclose(happened.mean(axis=1), [0.5, 0.8, 0.2, 0.5] * 2, atol=0.02)
        assert worst_correlation(happened) < 0.045


def worst_correlation(rows):
    table = np.corrcoef(np.array(rows, np.float64))
    return np.abs(table[np.triu_indices(len(table), 1)]).max()


def their_views(name):
    """The public code of MoCo, without crop and flip."""
    rng = np.random.default_rng(7)
    blurred = transforms.Lambda(lambda image: image.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 2.0))))
    if name == "moco_v1":
        return transforms.Compose([transforms.RandomGrayscale(0.2), transforms.ColorJitter(0.4, 0.4, 0.4, 0.4)])
    return transforms.Compose(
        [
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            transforms.RandomGrayscale(0.2),
            transforms.RandomApply([blurred], p=0.5),
        ]
    )


def our_views(view, images, place, seed=0):
    draws = many_draws(view, len(images), seed)
    if place == "cpu":
        return [view.apply(image, draw) for image, draw in zip(images, draws, strict=True)]
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return apply_draws(batch, torch.from_numpy(draws), view).round().byte().permute(0, 2, 3, 1).numpy()


def statistics(image):
    """Mean, contrast, log sharpness, chroma; and the mean hue as a complex number."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    red, green, blue = image.reshape(-1, 3).mean(axis=0)
    sharpness = cv2.Laplacian(grey, cv2.CV_64F).var()
    chroma = float(np.ptp(image.astype(int), axis=2).mean())
    return grey.mean(), grey.std(), np.log1p(sharpness), chroma, complex(red - (green + blue) / 2, green - blue)


@pytest.fixture(scope="module")
def theirs(scenes):
    torch.manual_seed(0)
    images = [Image.fromarray(image) for image in scenes]
    return {
        name: [statistics(np.asarray(view(image))) for _ in range(400) for image in images]
        for name, view in ((name, their_views(name)) for name in ("moco_v1", "moco_v2"))
    }


def smallest_pvalue(ours, theirs, originals):
    """Smallest p-value of Kolmogorov-Smirnov tests of the statistics' changes relative to the original images."""
    noise = np.random.default_rng(11)
    samples = []
    for views in (ours, theirs):
        values = np.array(views)
        start = np.resize(np.array(originals), values.shape)
        change = (values - start).real[:, :4]
        coloured = values[:, 3].real > 0.5
        turn = np.angle(values[coloured, 4] / start[coloured, 4]) / (2 * np.pi)
        # Unchanged views differ only by rounding, which larger noise hides from the test.
        columns = [*change.T, turn]
        samples.append([c + noise.normal(0, s, len(c)) for c, s in zip(columns, (1, 0.5, 0.03, 1, 0.005), strict=True)])
    return min(stats.ks_2samp(mine, other).pvalue for mine, other in zip(*samples, strict=True))


class TestDistribution:
    @pytest.mark.parametrize("place", ["cpu", "device"])
    @pytest.mark.parametrize("name", ["moco_v1", "moco_v2"])
    def test_presets_match_torchvision(self, scenes, theirs, name, place):
        originals = [statistics(image) for image in scenes]
        ours = [statistics(view) for view in our_views(PRESETS[name], [*scenes] * 400, place)]
        assert smallest_pvalue(ours, theirs[name], originals) > 1e-3

    @pytest.mark.parametrize(
        "change",
        [
            {"hue": 0.2},
            {"brightness": 0.7},
            {"contrast": 0.7},
            {"saturation": 0.7},
            {"jitter_p": 0.6},
            {"grey_p": 0.3},
            {"blur_p": 0.4},
            {"blur_sigma": (0.1, 2.6)},
        ],
    )
    def test_changed_presets_are_detected(self, scenes, theirs, change):
        originals = [statistics(image) for image in scenes]
        ours = [statistics(view) for view in our_views(ColourView(**change), [*scenes] * 400, "cpu")]
        assert smallest_pvalue(ours, theirs["moco_v2"], originals) < 1e-3

    @pytest.mark.parametrize("place", ["cpu", "device"])
    @pytest.mark.parametrize("name", ["moco_v1", "moco_v2"])
    def test_hue_limit(self, name, place):
        # One colour, so that contrast does not change the hue; its hue is 0, so that shifts wrap around.
        image = np.zeros((4, 4, 3), np.uint8)
        image[...] = (140, 90, 90)
        view = ColourView(hue=PRESETS[name].hue, grey_p=0, blur_p=0)
        views = np.array([v[0, 0] for v in our_views(view, [image] * 2000, place)], np.uint8)
        hsv = cv2.cvtColor((views[None] / 255).astype(np.float32), cv2.COLOR_RGB2HSV)[0]
        turns = (hsv[:, 0] / 360 + 0.5) % 1 - 0.5
        limit = view.hue
        assert np.abs(turns).max() < limit + 0.01  # about one level
        assert turns.max() > 0.95 * limit
        assert turns.min() < -0.95 * limit
        assert abs(turns.mean()) < 0.05 * limit


class TestView:
    def test_views_are_reproducible(self, scenes):
        image = scenes[0].copy()
        image.flags.writeable = False
        for name in PRESETS:
            first = [PRESETS[name](image, np.random.default_rng(i)) for i in range(20)]
            again = [PRESETS[name](image, np.random.default_rng(i)) for i in range(20)]
            assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
            assert all(view.shape == image.shape and view.dtype == np.uint8 for view in first)
            assert len({view.tobytes() for view in first}) > 10
        assert np.array_equal(image, scenes[0])

    def test_call_draws_and_applies(self, scenes):
        view = ColourView()
        for i in range(20):
            draw = view.draw(np.random.default_rng(i))
            assert np.array_equal(view(scenes[1], np.random.default_rng(i)), view.apply(scenes[1], draw))

    def test_grey_first(self, scenes):
        draw = np.array([1, 1, 0, 0.3, 0, 1, 2, 3, 1, 0], np.float32)
        for view in (ColourView(), ColourView(grey_first=True)):
            assert np.ptp(view.apply(scenes[0], draw), axis=2).max() == 0
        # Brightness 2 clips colours and grey levels at different pixels, so that the order matters.
        draw[FACTORS] = (2, 1, 1, 0)
        image = scenes[0]
        last, first = (PRESETS[name].apply(image, draw).astype(int) for name in ("moco_v2", "moco_v1"))
        bright = np.minimum(2 * image.astype(int), 255)
        assert np.abs(last[..., 0] - bright @ (0.299, 0.587, 0.114)).max() <= 1
        assert np.abs(first[..., 0] - np.minimum(2 * (image @ (0.299, 0.587, 0.114)), 255)).max() <= 2

    @pytest.mark.parametrize(
        "change", [{"brightness": -1}, {"hue": 0.6}, {"grey_p": 1.1}, {"blur_sigma": (0, 1)}, {"blur_sigma": (2, 1)}]
    )
    def test_bad_arguments(self, change):
        with pytest.raises(InputError, match=next(iter(change))):
            ColourView(**change)
