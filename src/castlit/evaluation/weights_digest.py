"""A network's digest: a checkpoint's name stays while its training continues."""

import hashlib

import torch
from torch import nn


def weights_digest(network: nn.Module) -> str:
    """A digest of a network's architecture and all its weights and buffers, in hexadecimal digits."""
    digest = hashlib.blake2b(repr(network).encode(), digest_size=16)
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
