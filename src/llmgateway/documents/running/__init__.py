"""The steps of a pipeline: what is asked for a part, how answers go on, are brought together and are read as JSON."""
