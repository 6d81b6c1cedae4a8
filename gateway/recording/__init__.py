"""Recordings of what a frontend asked and was answered, and their replay."""
