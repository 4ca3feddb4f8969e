"""Which route takes a request: templates, their checks, the router and path rewriting."""

from proxy.routing.check import RouteProblem, by_specificity, check_routes
from proxy.routing.rewrite import Rewrite, check_rewrite
from proxy.routing.router import Match, Router

__all__ = ["Match", "Rewrite", "RouteProblem", "Router", "by_specificity", "check_rewrite", "check_routes"]
