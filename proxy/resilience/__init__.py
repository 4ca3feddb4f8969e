"""Pure decision objects: no I/O, no clock of their own."""
