"""What the daemon says over HTTP: JSON for programs, a page for people, figures for Prometheus."""
