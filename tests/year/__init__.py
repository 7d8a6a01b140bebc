"""A year of rentals in virtual time: the product charges them, an oracle counts them again.

`make year N=10000 SEED=7` from outside; tests/flows/test_year.py runs a small one each time.
"""
