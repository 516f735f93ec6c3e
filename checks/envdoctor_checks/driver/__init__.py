"""The NVIDIA driver: kernel module, user-space libraries, device nodes, fabric manager."""
