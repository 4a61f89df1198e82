"""Checks of arguments, with the text of every error about them.

`arguments` has what every caller gives (arrays, sizes, states, parameters), `options` what the
layers' options, lengths and masks must be. They stand here so that both backends, and layers and
functions, say the same. This room knows cells and arrays and calls nobody.
"""
