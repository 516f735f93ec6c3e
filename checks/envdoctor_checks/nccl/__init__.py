"""NCCL, Gloo and the rendezvous."""
