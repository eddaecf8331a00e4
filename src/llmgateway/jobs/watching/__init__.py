"""Those who watch jobs: what of each job is remembered for them, and how new jobs are found."""
