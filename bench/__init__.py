"""Measures what the gateway costs on this machine: ``python -m bench``; beside others: ``python -m bench peers``."""
