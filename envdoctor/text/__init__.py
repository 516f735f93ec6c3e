"""The machinery of pasted text: from bytes to clean lines, to blocks, to matches.

It knows no check and no message: checks bring patterns, block shapes and readers. Import from the modules:
`shapes` holds the few types that a check declares and costs nothing to import; `decode`, `lines`, `blocks`,
`tracebacks` and `match` do the work and are imported only where there is a text to read.
"""
