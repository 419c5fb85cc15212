"""Objects from an encoder's features, without labels: cuts of the graph of an image's cells.

A cell is a position of the encoder's feature map. Cells are linked as far as their features, and colours, are alike
(:mod:`castlit.saliency.spectral.affinity`), and the methods of :mod:`castlit.saliency.spectral.discovery` say which
cells are the object: TokenCut, LOST and Deep Spectral Methods as published, and castlit's ``border_cut``.

Nothing is imported here: settings are checked without torch.
"""
