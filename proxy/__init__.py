"""Tidegate: a sidecar reverse proxy that enforces resilience from one file."""

__version__ = "0.1.0"
