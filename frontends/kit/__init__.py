"""The authoring kit for frontends."""
