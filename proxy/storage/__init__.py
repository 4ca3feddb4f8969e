"""State that instances share: one client of Redis, and the scripts it runs there."""
