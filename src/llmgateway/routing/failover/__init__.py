"""What happens when a deployment does not answer: the next one, another model, two at once, the rest elsewhere."""
