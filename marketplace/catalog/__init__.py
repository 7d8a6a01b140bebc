"""What is on sale: search, prices, quotes, templates, and how offers come to be."""
