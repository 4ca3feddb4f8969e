"""A property API with faults on demand, to try Tidegate against."""
