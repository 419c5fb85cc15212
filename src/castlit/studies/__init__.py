"""Studies: the same trainings with several seeds each, evaluated alike, and what can be said of them."""
