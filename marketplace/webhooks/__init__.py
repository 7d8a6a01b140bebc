"""Telling receivers of renters what happened: endpoints, events, signed and repeated sendings.

Rooms above call :func:`marketplace.webhooks.events.emit` in the transaction of a fact. Only
``send`` speaks to a network, and only the loop in ``deliver`` calls it.
"""
