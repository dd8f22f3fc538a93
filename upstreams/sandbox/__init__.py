"""A stand-in for a provider, so that a fresh installation answers without any provider's key.

Small, deterministic, and honest: every answer says that it comes from the sandbox. Formats share ``plans`` (what is
said and what it counts as) and ``server`` (HTTP); each has a module that reads its requests and writes its answers.
"""
