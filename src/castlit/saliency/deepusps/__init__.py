"""DeepUSPS: saliency learned from handcrafted methods, on the user's images and without labels.

Nguyen et al.: DeepUSPS: Deep Robust Unsupervised Saliency Prediction via Self-Supervision, NeurIPS 2019.

Phase 1 trains on each handcrafted method separately: a network learns its discretised maps, in several rounds. After
each round the targets are averaged with the network's predictions, which a CRF aligns to the images' edges. A network
cannot learn a method's random mistakes on many images, so the targets lose them. Phase 2 trains one network on the
refined targets of all methods.

Differences from the paper:

- No network starts from labels (the paper's was trained to segment Cityscapes): it starts from scratch, or from a
  backbone trained without labels.
- Each map is discretised at its Otsu threshold, not at a constant for each method.
- Targets are refined once in a round, with the trained network; in the paper's code, after each epoch.
- Network and images are small, for a CPU; ``deepusps=paper`` has the paper's budget.
- The predictor averages the network's map with that of ``quality=fused`` (``deepusps.fused``; 0 in ``deepusps=paper``).

The entry point is :func:`castlit.saliency.deepusps.phases.train_deepusps`. Nothing is imported here: the processes that
make pseudo-labels need no Lightning.
"""
