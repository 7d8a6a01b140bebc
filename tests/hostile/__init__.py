"""Partners that mean harm: `make hostile N=1000 SEED=1`, and a short form in the ordinary suite.

`inputs` are what they could type, `behaviours` how their servers could answer, `far_end` their side
as a process of its own, `campaign` the product's side, in the process that is measured.
"""
