"""A Python frontend as an image that any BuildKit runs by `# syntax=`."""
