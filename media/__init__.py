"""Pictures, clips and speech: the rules of their models, and the jobs that make clips."""
