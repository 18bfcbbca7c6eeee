"""Call control: values and decisions, no sockets. `manager.Manager` is the one door."""
