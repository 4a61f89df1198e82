"""The backends, and the choice between them.

What belongs here: `native` passes arrays to the compiled module `_core`, `reference` computes the
same in NumPy, `choice` selects one of the two, `types` holds what both take and return, and
`settings` keeps the choices and counts calls. This room knows cells (`_cells`, `_activations`) and
arrays, but no layers, functions or frameworks. It is reached through `core` and `runtime`.
"""
