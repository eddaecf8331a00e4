"""The benchmark: what this gateway costs beside its peers, measured in one run on one machine."""
