"""Local servers and simulators for the demo, development and tests.

Nothing here is imported by the product; `devstack` may import nothing of it either, so that what
the demo shows is the product and not the demo. Modules named in the Makefile run with the standard
library alone until the virtual environment exists.
"""
