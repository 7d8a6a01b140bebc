"""A crowd of live rentals at rest: rows and pods copied from one that the product started."""
