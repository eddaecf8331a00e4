"""Virtual models: `service/<route>` and `service/<route>:<flavor>`, whose answer is a job."""
