"""The face of document services: `/api/v1/…` and the channels on which jobs are watched."""
