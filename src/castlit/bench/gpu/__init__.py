"""One command for whoever has a GPU: tests, steps, views, a real training, a resumed one, and two processes."""

from castlit.bench.gpu.run import bench_gpu

__all__ = ["bench_gpu"]
