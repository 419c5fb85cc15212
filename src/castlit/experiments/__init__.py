"""Many runs: studies over configurations and seeds, and comparisons of runs."""
