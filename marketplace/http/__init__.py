"""The marketplace's edge: REST API, portal pages, problems.

A handler translates, calls one action, translates back."""
