"""Both sides of everything compared: rows that differ become breaks, with an age and an owner."""
