"""The cache among the policies: what it does about a request, what it stores, and how that is sent."""
