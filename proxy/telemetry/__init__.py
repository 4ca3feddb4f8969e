"""Metrics, access log and the event records that feed them."""
