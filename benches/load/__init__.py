"""Load on loopback, bounded in calls and seconds, against the gateway as its own process."""
