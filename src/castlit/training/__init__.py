"""What ``castlit.train`` does: build the run, fit it, report it."""
