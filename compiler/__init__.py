"""Pure: desired state -> fabric -> a plan for each host. No clock, no random, no environment, no network."""
