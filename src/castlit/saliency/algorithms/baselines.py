"""Baselines: maps that use little or nothing of the image."""

import cv2
import numpy as np

from castlit.saliency.algorithms.superpixels import Image, Map, stretch

CENTRE_SIGMA = 0.25
RESIDUAL_SIDE = 64


def all_ones(image: Image) -> Map:
    """Everything is salient: a map (H, W) of ones."""
    return np.ones(image.shape[:2], np.float32)


def centre_gaussian(image: Image) -> Map:
    """Centre prior: a Gaussian (H, W) whose σ is a quarter of the image's width and height."""
    height, width = image.shape[:2]
    across = ((np.arange(width) + 0.5) / width - 0.5) / CENTRE_SIGMA
    down = ((np.arange(height) + 0.5) / height - 0.5) / CENTRE_SIGMA
    return np.asarray(np.exp(-(across**2 + down[:, None] ** 2) / 2), np.float32)


def spectral_residual(image: Image) -> Map:
    """The image of the log spectrum's residual, after its smooth part is subtracted; (H, W) in [0, 1].

    Hou and Zhang: Saliency Detection: A Spectral Residual Approach, CVPR 2007.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    shrunk = cv2.resize(grey, (RESIDUAL_SIDE, RESIDUAL_SIDE), interpolation=cv2.INTER_AREA)
    spectrum = np.fft.fft2(shrunk.astype(np.float64))
    log = np.log(np.abs(spectrum) + 1e-8)
    residual = np.exp(log - cv2.blur(log, (3, 3)) + 1j * np.angle(spectrum))
    power = np.asarray(cv2.GaussianBlur(np.abs(np.fft.ifft2(residual)) ** 2, (0, 0), 2.5), np.float64)
    values = np.asarray(stretch(power), np.float32)
    return np.asarray(cv2.resize(values, grey.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
