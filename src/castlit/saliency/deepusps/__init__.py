"""DeepUSPS: saliency learned from handcrafted methods, on the user's own images and with no labels.

Nguyen et al.: DeepUSPS: Deep Robust Unsupervised Saliency Prediction via Self-Supervision, NeurIPS 2019.

Phase 1 takes each handcrafted method by itself: a network learns its discretised maps, over several rounds; after each
round the targets move towards what the network predicts, brought to the images' edges by a CRF. Over many images a
network cannot learn a method's accidental mistakes, so the targets lose them. Phase 2 trains one network on the refined
targets of all methods together.

Where this departs from the paper:

- No network starts from labels (the paper's has learned to segment Cityscapes): from scratch, or from a backbone that
  was trained without labels.
- Maps are discretised at a level of their own (Otsu) instead of constants found for each method.
- Targets move once in a round, by the predictions of the trained network; in the paper's code they do after each epoch.
- The network is small and images are resized to what suits a CPU; ``deepusps=paper`` has the paper's budget.

:func:`castlit.saliency.deepusps.phases.train_deepusps` is the way in. Nothing is imported here: the processes that make
pseudo-labels need no Lightning.
"""
