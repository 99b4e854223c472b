"""Where replicas run: SkyPilot, local processes, or memory."""
