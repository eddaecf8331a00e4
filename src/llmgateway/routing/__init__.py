"""From a model to a deployment that answers."""
