"""What it takes to compile a kernel, and what the compiled smoke-test kernel did."""
