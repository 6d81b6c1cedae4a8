"""Testing of frontends: a gateway without an engine, and what to say of the LLB that comes out.

With torana installed, pytest has the fixtures `gateway`, `golden` and `runtimes` (see `plugin`).
"""
