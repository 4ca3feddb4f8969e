"""One thin async layer a file: ask the decision object, act, report."""
