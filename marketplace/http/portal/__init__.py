"""The portal: server-rendered pages over the same domain functions as the API.

A view translates, makes one domain call, and translates back; a refusal becomes a panel that says
what happened, whose matter it is, and what to do next. Pages work without a script; htmx makes
them live.
"""
