"""Staff pages: work that people of the platform do. Records are shown by Django admin."""
