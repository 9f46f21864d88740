"""Several runs beside one another: which is better, by how much, and what it cost."""
