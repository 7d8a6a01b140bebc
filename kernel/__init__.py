"""Helpers that every area may use and that know no area: clock, ids, money, errors, text."""
