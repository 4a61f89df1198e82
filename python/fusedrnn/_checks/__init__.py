"""Checks of arguments, with the text of every error about them.

What belongs here: `arguments` checks arrays, sizes, states and parameters, `options` the options of
layers, lengths and masks. These checks are in one room so that both backends, and layers and
functions, raise the same errors. This room knows cells and arrays, and uses no other room.
"""
