"""The data-plane edge: aiohttp's low-level server in front, the route's handler behind, our own response writer."""
