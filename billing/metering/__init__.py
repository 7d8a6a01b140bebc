"""Holds, usage and the end of a rental: from proven windows to money, all in the database."""
