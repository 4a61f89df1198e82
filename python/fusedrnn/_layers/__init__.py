"""What the layers share: parameters, states, stacks of calls, noise, padding, quick steps.

A layer owns named arrays (`params`), checks and shapes what a caller gives (`layer`, `state`), and
makes one call of `core` for each layer of its stack (`stack`), with noise drawn in between
(`noise`). The public classes are in `fusedrnn.layers` and `fusedrnn.stream`. This room knows
`core`, the backends' plain data and the checks; it does not know models, files or frameworks.
"""
