"""The machinery of pasted text: from bytes to clean lines, to blocks, to matches.

It knows no check and no message: checks bring patterns, block shapes and readers. Import from the modules:
`shapes` holds what a check declares and `model` what it is given; both cost nothing to import. `decode`,
`lines`, `blocks`, `scenes`, `tracebacks` and `match` do the work, for those who have a text to read.
"""
