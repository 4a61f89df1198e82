"""What the layers share: parameters, states, stacks of calls, noise, padding, quick steps.

What belongs here: a layer owns named arrays (`params`), checks what a caller gives and brings it
into shape (`layer`, `state`), and makes one call of a backend for each layer of its stack
(`stack`), with noise drawn in between (`noise`). The public classes are in `fusedrnn.layers` and
`fusedrnn.stream`. This room knows `core`, the backends' plain data and the checks; it does not know
models, files or frameworks.
"""
