"""Pure HTTP rules: no I/O, each with the RFC section it comes from."""
