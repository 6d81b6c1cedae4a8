"""Built-in frontends and the kit that frontends are made with."""
