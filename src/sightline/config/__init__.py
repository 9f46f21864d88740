"""Configuration of a run: sections of settings, checks, overrides from the command line, strict YAML."""
