"""Price sources, one file per cloud. The registry is arbiter/registry.py."""
