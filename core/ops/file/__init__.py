"""File ops: directories, files, links, removals and copies, without containers."""
