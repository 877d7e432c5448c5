"""Tasks of peers; each file runs in the peer's environment."""
