"""One stable OpenAI-compatible endpoint per service, whatever machines serve it."""
