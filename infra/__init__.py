"""GPU work on an existing engine: hosted models, deployments, runs."""
