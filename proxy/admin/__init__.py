"""The admin and health listeners: they read snapshots and never touch the data path."""
