"""Pure arithmetic: window x price -> money. Knows no table, no clock, no network."""
