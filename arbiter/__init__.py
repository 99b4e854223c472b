"""arbiter: keeps LLM servers on the cheapest GPU that the rules allow."""

__version__ = "0.1.0"
