"""From a text to the batches that a model takes one by one: nothing lost, nothing doubled, whatever the text is."""
