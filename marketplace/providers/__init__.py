"""Owners of cards: they apply, staff approve them, they register data centres and clusters."""
