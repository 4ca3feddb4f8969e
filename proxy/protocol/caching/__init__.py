"""What a shared HTTP cache may do: decisions only (RFC 9111, and RFC 9110, 5861, 8246, 9211 and 9213 in part).

All times are Unix seconds, all durations seconds; the present time is an argument. A response is parsed once, when it
is stored: `StoredResponse` has what later requests need.
"""
