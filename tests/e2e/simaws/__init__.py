"""A simulated AWS whose machines are real: moto for the API, Linux namespaces for the instances."""
