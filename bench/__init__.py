"""The benchmark: Tidegate beside a naive aiohttp proxy, nginx and Envoy, in one run. See docs/performance.md."""
