"""Long work that outlives a request: one row a job, its moves, and the workers that make them."""
