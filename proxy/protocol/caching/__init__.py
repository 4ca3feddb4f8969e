"""What a shared HTTP cache may do (RFC 9111, and RFC 9110, 5861, 8246, 9211, 9213 where they concern one): decisions only.

All times are Unix seconds, all durations seconds; the present time is an argument. A response is parsed once, when it
is stored: `StoredResponse` has what later requests need.
"""
