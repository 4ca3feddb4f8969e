"""Several worker processes behind one data port, started, watched and asked by one supervisor."""
