"""Questions about recorded prices. A price is a step function, so time is what is counted."""
