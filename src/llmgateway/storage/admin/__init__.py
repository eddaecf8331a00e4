"""What administrators write: keys, organizations, providers, deployments; and who did so."""
