"""A model of glibc's dynamic loader: which file a name becomes, by which rule, over which candidates, and why not others.

It runs nothing and maps nothing: it reads a `tree` of ELF headers by the `settings` of one process. Its agreement
with the real loader is tested on random trees for glibc 2.36; what it says of other releases follows their sources.
"""
