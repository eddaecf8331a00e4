"""How deployments are: what is in flight, how fast they answer, and which of them rest."""
