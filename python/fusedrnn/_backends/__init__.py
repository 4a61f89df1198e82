"""The backends, and the choice between them.

What belongs here: `native` hands arrays to the compiled module `_core`, `reference` computes the
same in NumPy, `choice` says which of the two runs, `types` what both take and give, and `settings`
keeps choices and counts calls. This room knows cells (`_cells`, `_activations`) and arrays; it does
not know layers, functions or frameworks, and everyone reaches it through `core` or `runtime`.
"""
