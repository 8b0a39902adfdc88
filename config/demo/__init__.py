"""The demo: two organisations live a year of billing, driven from outside through the API and the simulator's controls."""
