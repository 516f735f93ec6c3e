"""The PyTorch build, against the machine and against its sister packages."""
