"""Jobs: documents through services, in the background, each under a lease. The one room that imports dramatiq."""
