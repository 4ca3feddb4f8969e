"""The innermost handler: our own HTTP/1.1 client with pools, endpoints and health."""
