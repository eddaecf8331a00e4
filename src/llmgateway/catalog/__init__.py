"""What is on offer: the catalog's file and the providers whose keys are set, as one immutable snapshot."""
