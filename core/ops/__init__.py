"""What each op does: source, exec, file, merge, diff, build."""
